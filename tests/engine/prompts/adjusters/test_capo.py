"""Evolution: the edits of demonstrations, the length penalty, and who survives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.prompting import Scripted, planted, setting, with_writer

from engine.prompts.adjusters import capo
from engine.prompts.adjusters.capo import Donors
from engine.prompts.judging import Standing
from engine.prompts.template import Prompt


@pytest.mark.parametrize("seed", range(6))
def test_demonstrations_stay_training_rows_without_repetition_and_few(seed: int) -> None:
    at = setting(seed, method="capo", demonstrations=3, max_demonstrations=4)
    donors, rows = Donors.of(at), list(at.start.demonstrations)
    kinds = set()
    for _ in range(60):
        kind = at.generator.choice(capo.SWAPS)
        before = list(rows)
        rows, what = capo.edit(kind, rows, donors, at)
        kinds.add(kind)
        assert len(rows) <= 4
        assert all(row in at.task.train for row in rows)
        assert all(row not in rows[:i] for i, row in enumerate(rows))
        if what == "one demonstration more":
            assert len(rows) == len(before) + 1
        if what == "demonstrations reordered":
            assert sorted(r.text for r in rows) == sorted(r.text for r in before)
        if what == "one demonstration for another":
            assert sum(a != b for a, b in zip(rows, before, strict=True)) == 1
            assert sorted(r.gold for r in rows) == sorted(r.gold for r in before)
    assert kinds == set(capo.SWAPS)


def test_what_is_added_is_of_the_class_shown_least() -> None:
    at = setting(0, method="capo", max_demonstrations=5)
    donors = Donors.of(at)
    no = [row for row in donors.rows if row.gold == 0][:3]
    for _ in range(10):
        rows, _ = capo.edit("add", list(no), donors, at)
        assert [row.gold for row in rows].count(1) == 1


def equal(prompt: Prompt) -> Standing:
    return planted(Prompt("p", "the same for all"))


def length_after_generations(penalty: float) -> float:
    """Mean tokens of the last children when all prompts are equally good."""
    at = setting(1, method="capo", length_penalty=penalty)
    adjuster = capo.adjust(at)
    ask, late = next(adjuster), []
    for number in range(16):
        late += [at.tokens(p) for p in ask] if number > 6 else []
        ask = adjuster.send([equal(p) for p in ask])
    return sum(late) / len(late)


def test_of_equally_good_ones_the_shorter_survive() -> None:
    assert length_after_generations(0.1) < length_after_generations(0.0)


def share_of_one(helps: bool) -> float:
    """How many of the later children show one certain row, when prompts that do are the better ones or no better."""
    at = setting(7, method="capo", max_demonstrations=3)
    wanted = at.task.train[4]
    adjuster = capo.adjust(at)
    ask, late = next(adjuster), []
    plain = planted(Prompt("p", "x"))
    good, bad = replace(plain, skill=0.87), replace(plain, skill=0.5)
    for number in range(20):
        ask = adjuster.send([good if helps and wanted in p.demonstrations else bad for p in ask])
        late += [wanted in p.demonstrations for p in ask] if number >= 8 else []
    return sum(late) / len(late)


def test_a_demonstration_that_helps_spreads() -> None:
    """Evolution finds it and keeps it."""
    assert share_of_one(helps=True) > 1.5 * share_of_one(helps=False)


def test_without_demonstrations_allowed_only_words_change() -> None:
    at = setting(2, method="capo", max_demonstrations=0)
    answers = [f"Say whether statement {i} is true." for i in range(50)]
    adjuster = capo.adjust(with_writer(Scripted(answers), at))
    ask, children = next(adjuster), list[Prompt]()
    for _ in range(6):
        assert all(not prompt.demonstrations for prompt in ask)
        ask = adjuster.send([equal(prompt) for prompt in ask])
        children += ask
    assert {prompt.instruction for prompt in children} & set(answers)
