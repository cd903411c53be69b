"""The race of prompts as a bracket, last round first: who is in, who dropped out in which round, each with its figure."""

from __future__ import annotations

from rich.text import Text

from engine import events as ev
from engine import figures
from engine.state import CandidateState, RunState
from tui.widgets.states import elide, mark

NAME = 12
DOTS = 40


def bracket(state: RunState, best: str | None) -> Text:
    """Step by step, the last one first; `best` is the prompt that was chosen."""
    runs: dict[int, list[CandidateState]] = {}
    for candidate in state.candidates.values():
        told = last(candidate)
        runs.setdefault(told.step if told else candidate.step, []).append(candidate)
    lines = [Text.assemble(("chosen   ", "bright_black"), ("★ ", "green"), best)] if best else []
    for step, raced in sorted(runs.items(), reverse=True):
        if len(runs) > 1:
            use = state.steps[step].use if step in state.steps else "?"
            lines.append(Text(f"step {step + 1} {use}", "underline"))
        lines += _rounds(raced)
    if not any(map(last, state.candidates.values())):
        lines.append(Text("Who is in and who dropped out appears here, round by round, with figures.", "bright_black"))
    return Text("\n").join(lines)


def last(candidate: CandidateState) -> ev.CandidateScored | None:
    """What was told of it last while it raced, on development rows."""
    raced = [scored for (_, split, _), scored in candidate.scores.items() if split == "dev"]
    return max(raced, key=lambda scored: scored.seq, default=None)


def _rounds(raced: list[CandidateState]) -> list[Text]:
    lines = []
    for number in sorted({candidate.round for candidate in raced}, reverse=True):
        met = sum(candidate.round >= number for candidate in raced)
        name = f"round {number}" if number else "entered"
        lines.append(Text.assemble((f"{name:<9}", "bright_black"), ("●" * min(met, DOTS), "cyan"), f" {met}"))
        here = [candidate for candidate in raced if candidate.round == number]
        lines += [_line(candidate) for candidate in sorted(here, key=_place)]
    return lines


def _place(candidate: CandidateState) -> tuple[bool, float]:
    """Those in the race before those that left it, the better before the worse."""
    told = last(candidate)
    better = 0.0 if told is None else told.accuracy if figures.lower(told.metric) else -told.accuracy
    return not candidate.alive, better


def _line(candidate: CandidateState) -> Text:
    told = last(candidate)
    figure = f"{figures.quality(told.metric, told.accuracy):>8}  n {told.n}" if told else "  no figure yet"
    style = "" if candidate.alive else "bright_black"
    line = Text.assemble("  ", mark("in" if candidate.alive else "out"), " " if candidate.alive else "")
    return line.append(f" {elide(candidate.name, NAME):<{NAME}}{figure}", style)
