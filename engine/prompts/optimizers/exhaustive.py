"""Every candidate meets every development row, as far as the budget goes: the reference that a race is judged against."""

from __future__ import annotations

from collections.abc import Sequence

from engine.prompts.race import Race


def choose(race: Race) -> int:
    """The winner's index."""
    candidates = list(range(len(race.prompts)))
    meet(race, candidates)
    return race.ranked(candidates)[0]


def meet(race: Race, candidates: Sequence[int]) -> None:
    """All of the candidates on the same rows, as far as the budget goes; everybody's figures are reported."""
    race.together(candidates, race.left)
    for candidate in candidates:
        race.tell(candidate, 1, True)
