"""The tables of a `joint` step, folded from a run's state: levels x prompts, what is recovered, what transfers; no torch."""

from __future__ import annotations

from collections.abc import Sequence

from engine import events as ev
from engine import figures
from engine.events.joint import PROMPTS, SOFT, TEXT
from engine.sections import section
from engine.state import RunState

Table = tuple[list[str], list[list[str]]]
CHOSEN = "★"
NOTE = (
    f"Accuracies on the same test rows; {CHOSEN} is what development rows chose among the level's texts and soft prompts. "
    "A carried prompt was made for the level before and not changed."
)
SHARE = (
    "Recovered is the share of the accuracy lost with the plain prompt that a prompt wins back, on the test rows, undefined "
    "where the loss's own interval reaches zero. Beside it stands what the same prompt gains on the dense model: so much of a "
    "gain is plain adaptation to the task."
)


def steps(state: RunState) -> list[int]:
    """The steps that have a grid."""
    return list(dict.fromkeys(step for step, _, _ in state.grid))


def rows(state: RunState, step: int) -> dict[str, dict[str, ev.GridScored]]:
    """Of every level, in the order of the walk, its cells by kind of prompt."""
    out: dict[str, dict[str, ev.GridScored]] = {}
    for (at, level, kind), event in state.grid.items():
        if at == step:
            out.setdefault(level, {})[kind] = event
    return out


def kinds(state: RunState, step: int) -> list[str]:
    """The kinds of prompts that any level has."""
    found = {kind for cells in rows(state, step).values() for kind in cells}
    return [kind for kind in PROMPTS if kind in found]


def grid(state: RunState, step: int, intervals: bool = True) -> Table:
    """A row a level, a column a kind of prompt."""
    columns, body = kinds(state, step), []
    for level, cells in rows(state, step).items():
        n = str(next(iter(cells.values())).n)
        body.append([level, *(_cell(cells.get(kind), intervals) for kind in columns), n])
    return ["level", *columns, "n"], body


def recovered(state: RunState, step: int) -> Table:
    """A row for every kind of prompt at every level above the first."""
    found = [event for (at, level, _), event in state.recovered.items() if level and at == step]
    return ["level", "prompt", "lost by pruning", "recovered [95%]", "gain on dense"], _shares(found)


def chosen(state: RunState) -> Table:
    """What the prompts win back that steps have chosen: a row a step."""
    found = [event for (_, level, _), event in state.recovered.items() if not level]
    return ["stage", "prompt", "lost", "recovered [95%]", "gain on dense"], _shares(found)


def _shares(found: Sequence[ev.Recovered]) -> list[list[str]]:
    return [
        [e.level or e.stage, e.prompt, figures.difference(-e.gap, -e.gap_high, -e.gap_low),
         figures.ratio(e.value, e.low, e.high),
         figures.NOTHING if None in (e.control, e.control_low, e.control_high)
         else figures.difference(e.control or 0.0, e.control_low or 0.0, e.control_high or 0.0)]
        for e in found
    ]  # fmt: skip


def transfers(state: RunState, step: int, kind: str) -> Table:
    """A row for the level that a prompt was made at, a column for the level that it is used at."""
    levels, body = list(rows(state, step)), []
    for trained_at in levels:
        found = [state.transfers.get((step, kind, trained_at, used_at)) for used_at in levels]
        body.append(
            [trained_at, *(figures.accuracy(e.accuracy, e.low, e.high) if e else figures.NOTHING for e in found)]
        )
    told = any(set(row[1:]) - {figures.NOTHING} for row in body)
    return [f"{kind} prompt made at", *(f"used at {level}" for level in levels)], body if told else []


def sections(state: RunState) -> str:
    """All tables of all such steps, as Markdown."""
    parts = []
    for step in steps(state):
        of = f" of step {step + 1}" if len(steps(state)) > 1 else ""
        parts += [section(f"Levels and prompts{of}", *grid(state, step)), NOTE]
        won = section(f"Recovered{of}", *recovered(state, step))
        parts += [won, SHARE] if won else []
        parts += [section(f"Transfer of the {kind} prompt{of}", *transfers(state, step, kind)) for kind in (TEXT, SOFT)]
    won = section("Recovered by chosen prompts", *chosen(state))
    parts += [won, SHARE] if won else []
    return "\n\n".join(part for part in parts if part)


def _cell(event: ev.GridScored | None, interval: bool) -> str:
    if event is None:
        return figures.NOTHING
    shown = figures.accuracy(event.accuracy, event.low, event.high) if interval else figures.share(event.accuracy)
    return f"{shown} {CHOSEN}" if event.chosen else shown
