"""Laws of every prompt adjuster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.prompting import planted, setting

from engine.prompts.adjusting import Setting
from engine.prompts.template import Prompt
from engine.registry import ADJUSTERS

ROUNDS = 4


def proposals(at: Setting, rounds: int = ROUNDS) -> list[list[Prompt]]:
    """What an adjuster asks in its first rounds, answered by planted figures."""
    adjuster = ADJUSTERS.load(at.options.method).adjust(at)
    asked = [list(next(adjuster))]
    while len(asked) < rounds:
        try:
            asked.append(list(adjuster.send([planted(prompt) for prompt in asked[-1]])))
        except StopIteration:
            break
    adjuster.close()
    return asked


@pytest.mark.parametrize("name", ADJUSTERS.names())
def test_the_same_seed_proposes_the_same(name: str) -> None:
    texts = [[[p.text() for p in ask] for ask in proposals(setting(seed, method=name))] for seed in (3, 3)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ADJUSTERS.names())
def test_every_proposal_can_be_filled_and_is_new(name: str) -> None:
    at = setting(1, method=name, demonstrations=2)
    asked = proposals(at)
    assert all(asked), "a round without a prompt"
    for prompt in (p for ask in asked for p in ask):
        assert prompt.fill(at.rows[0]).endswith(replace(prompt, instruction="", demonstrations=()).fill(at.rows[0]))
        assert prompt.origin
        assert all(row in at.task.train for row in prompt.demonstrations)
    texts = [p.text() for ask in asked[1:] for p in ask]
    assert any(text != at.start.text() for text in texts)


@pytest.mark.parametrize("name", ADJUSTERS.names())
def test_every_round_asks_something_new(name: str) -> None:
    """Known prompts cost nothing: who asks only for them would never end."""
    known: set[str] = set()
    for ask in proposals(setting(2, method=name, demonstrations=2), 8):
        texts = {prompt.text() for prompt in ask}
        assert texts - known
        known |= texts


@pytest.mark.parametrize("name", ADJUSTERS.names())
def test_choices_may_differ_from_row_to_row(name: str) -> None:
    at = setting(1, method=name, demonstrations=1)
    choices = [(" no", " yes indeed", " a name"), (" objects", " it is bound"), (" no", " yes", " value", " module")]
    rows = [replace(row, choices=choices[i % 3], gold=i % 2) for i, row in enumerate(at.task.dev)]
    task = replace(at.task, labels={}, train=rows[16:], dev=rows[:16], test=rows)
    start = replace(at.start, demonstrations=tuple(task.train[:1]))
    asked = proposals(replace(at, task=task, rows=task.dev, start=start))
    assert len(asked) > 1
