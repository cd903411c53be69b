"""Phrase edits."""

from __future__ import annotations

from collections import Counter

from fixtures.prompting import INSTRUCTION, planted, setting

from engine.prompts.adjusters import grips


def test_an_edit_keeps_what_it_does_not_name() -> None:
    at = setting(3)
    before = Counter(INSTRUCTION.split())
    for kind in ("delete", "swap"):
        after = Counter(grips.edit(kind, INSTRUCTION, [], at)[0].split())
        assert not after - before
        assert kind == "delete" or after == before
    added, what = grips.edit("add", INSTRUCTION, ["Think first."], at)
    assert Counter(added.split()) - before == Counter(["Think", "first."])
    assert what == "'Think first.' put back"


def test_no_text_is_asked_for_twice_and_it_ends() -> None:
    at = setting(5, method="grips")
    adjuster, asked = grips.adjust(at), []
    ask = next(adjuster)
    try:
        while len(asked) < 500:
            asked += [prompt.text() for prompt in ask]
            ask = adjuster.send([planted(prompt) for prompt in ask])
    except StopIteration:
        pass
    assert 10 < len(asked) < 500
    assert len(set(asked)) == len(asked)


def test_a_paraphrase_is_one_of_the_short_answers() -> None:
    at = setting(2)
    found = {grips.paraphrase("the statement", at) for _ in range(6)}
    assert all(0 < len(text.split()) <= 9 and "\n" not in text for text in found)
