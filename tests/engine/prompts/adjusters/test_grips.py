"""Phrase edits."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from fixtures.prompting import INSTRUCTION, Scripted, planted, setting, with_writer
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts.adjusters import grips


def test_an_edit_keeps_what_it_does_not_name() -> None:
    at = setting(3)
    before = Counter(INSTRUCTION.split())
    for kind in ("delete", "swap"):
        after = Counter(grips.edit(kind, INSTRUCTION, (), at).text.split())
        assert not after - before
        assert kind == "delete" or after == before
    added = grips.edit("add", INSTRUCTION, (" Think first.",), at)
    assert Counter(added.text.split()) - before == Counter(["Think", "first."])
    assert added.told == "'Think first.' put back"


TEXTS = st.text(st.sampled_from("ab1.,:!- \n\t"), max_size=60)
GOOD = "what was said"
WILD = "- Give a score, e.g. 3.5, as a number:\n\n\t...Then stop at 10:30!"


@given(st.one_of(TEXTS, st.text()))
def test_the_phrases_of_a_text_are_the_text(text: str) -> None:
    found = grips.phrases(text)
    assert grips.join(found) == text
    assert all(len(phrase.split()) <= grips.LONGEST for phrase in found)


def test_phrases_cut_at_marks_and_after_four_words() -> None:
    found = grips.phrases("Read it, then say whether the writer liked the film. Answer yes or no.")
    assert found == ["Read it,", " then say whether the", " writer liked the film.", " Answer yes or no."]
    assert "".join(grips.phrases(INSTRUCTION)) == INSTRUCTION
    assert grips.phrases("") == []


def test_a_mark_inside_a_word_ends_no_phrase() -> None:
    assert grips.phrases(WILD) == [
        "- Give a score,", " e.g.", " 3.5,", " as a number:", "\n\n\t...Then stop at 10:30!"]  # fmt: skip


@pytest.mark.parametrize("kind", ["swap", "paraphrase"])
def test_other_words_leave_the_layout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grips, "paraphrase", lambda phrase, setting: "in other words")
    at = setting(3)
    for _ in range(10):
        edited = grips.edit(kind, WILD, (), at).text
        assert [space for space in re.findall(r"\s+", edited) if space != " "] == ["\n\n\t"]


def test_only_what_was_deleted_comes_back_and_only_once() -> None:
    at = setting(3)
    for kind in ("swap", "paraphrase"):
        assert grips.edit(kind, INSTRUCTION, (" Think first.",), at).deleted == (" Think first.",)
    without = grips.edit("delete", INSTRUCTION, (), at)
    (gone,) = without.deleted
    assert gone in grips.phrases(INSTRUCTION)
    back = grips.edit("add", without.text, without.deleted, at)
    assert back.deleted == ()
    assert Counter(back.text.split()) == Counter(INSTRUCTION.split())
    assert grips.edit("add", without.text, (gone, gone), at).deleted == (gone,)


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
    long = "what was stated at great length in so many other words"
    at = setting(2)
    writer = Scripted([f'"{GOOD}"\nas it were', long, ""])
    assert {grips.paraphrase("the statement", with_writer(writer, at)) for _ in range(6)} == {GOOD}
    for bad in (long, "", "the statement"):
        assert grips.paraphrase("the statement", with_writer(Scripted([bad]), at)) == "the statement"
