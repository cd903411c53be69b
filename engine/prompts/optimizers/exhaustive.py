"""Every candidate meets every development row, as far as the budget goes: the reference that a race is judged against."""

from __future__ import annotations

from engine.prompts.race import Race


def choose(race: Race) -> int:
    """The winner's index."""
    candidates = list(range(len(race.prompts)))
    rows = max(1, min(len(race.rows), race.budget // len(candidates)))
    for candidate in candidates:
        race.advance(candidate, rows)
        race.tell(candidate, 1, True)
    return race.ranked(candidates)[0]
