"""Shortening: what goes first, rates that rise and fall, and a step that wins by length."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from fixtures.prompting import INSTRUCTION, setting, standing
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts.adjusters import shorten
from engine.prompts.judging import Standing
from engine.prompts.options import Form
from engine.prompts.soft import beginning

PIECES = st.lists(st.tuples(st.floats(0, 50), st.integers(0, 9)), min_size=1, max_size=12)


@given(PIECES, st.floats(0, 40))
def test_the_least_informative_go_until_the_share_is_reached(pieces: list[tuple[float, int]], share: float) -> None:
    stays = shorten.kept(pieces, share)
    information = [value / max(1, tokens) for value, tokens in pieces]
    gone = [i for i, stay in enumerate(stays) if not stay]
    assert gone
    assert max(information[i] for i in gone) <= min((information[i] for i, s in enumerate(stays) if s), default=np.inf)
    sizes = sorted(max(1, pieces[i][1]) for i in gone)
    assert sum(sizes) >= share or all(not stay for stay in stays)
    last = max(gone, key=lambda i: information[i])
    assert len(gone) == 1 or sum(max(1, pieces[i][1]) for i in gone if i != last) < share + max(sizes)


def judged(good: bool) -> Standing:
    margins = np.linspace(-1, 2, 16) - (0 if good else 3)
    return standing(margins > 0, margins)


def lengths(level: bool) -> tuple[list[list[int]], int]:
    """Tokens of what is asked, round by round, when every cut is level with the start, or none is; and the start's."""
    at = setting(0, method="shorten", demonstrations=3)
    adjuster = shorten.adjust(at)
    ask, rounds = next(adjuster), []
    try:
        ask = adjuster.send([judged(True)])
        while True:
            rounds.append([at.tokens(p) for p in ask])
            ask = adjuster.send([judged(level) for _ in ask])
    except StopIteration:
        return rounds, at.tokens(at.start)


def test_while_nothing_is_lost_it_goes_on_to_the_bare_template() -> None:
    rounds, start = lengths(level=True)
    best = [min(r) for r in rounds]
    assert best == sorted(best, reverse=True)
    at = setting(0, method="shorten")
    assert best[-1] <= len(at.subject.tokenizer(at.start.template).input_ids) < start


def test_when_all_is_lost_the_cuts_become_finer_and_it_ends() -> None:
    rounds, start = lengths(level=False)
    assert len(rounds) >= 2
    longest = [max(r) for r in rounds]
    assert longest == sorted(longest)
    assert longest[-1] < start


def test_cuts_only_leave_out() -> None:
    at = setting(2, method="shorten", demonstrations=4)
    words = INSTRUCTION.split()
    for prompt in shorten.cuts(at.start, 0.3, at):
        rest = iter(words)
        assert all(word in rest for word in prompt.instruction.split()), "the words' order is kept"
        rows = iter(at.start.demonstrations)
        assert all(row in rows for row in prompt.demonstrations)
        assert at.tokens(prompt) < at.tokens(at.start)


def test_cuts_keep_the_layout_of_what_stays() -> None:
    text = "Score it from 1.5 to 3.5, e.g. 2.5.\n\nThen stop: say no more."
    at = setting(2, method="shorten", instruction=text)
    for prompt in shorten.cuts(at.start, 0.1, at):
        words = prompt.instruction.split()
        assert all(word in text.split() for word in words), "no word is rewritten"
        assert re.search(r"\S {2,}\S", prompt.instruction) is None
        assert "\n\n" in prompt.instruction or "Then" not in words or words[0] == "Then"


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_virtual_tokens_count_for_what_is_least_informative(form: Form) -> None:
    at = setting(2, method="shorten", demonstrations=2)
    ids = at.subject.tokenizer("a name is bound to objects").input_ids
    soft = beginning(form, at.subject, ids)
    with_, without = (shorten.information(at, ["Read it,", " then say"], [], s) for s in (soft, None))
    assert [tokens for _, tokens in with_] == [tokens for _, tokens in without]
    assert all(abs(a - b) > 1e-4 for (a, _), (b, _) in zip(with_, without, strict=True))
    shorten.cuts(replace(at.start, soft=soft), 0.3, at)


@pytest.mark.parametrize("instruction", ["", "Yes"])
def test_next_to_nothing_can_be_shortened(instruction: str) -> None:
    at = setting(1, method="shorten", instruction=instruction)
    adjuster = shorten.adjust(at)
    next(adjuster)
    try:
        asked = adjuster.send([judged(True)])
        assert [p.instruction for p in asked] == [""]
    except StopIteration:
        assert not instruction
