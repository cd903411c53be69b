"""The A/B table of prompts and one prompt in full, made from a run's state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.text import Text

from engine import events as ev
from engine import figures, outcome
from engine.state import CandidateState, RunState
from tui.widgets.columns import Column, Shown
from tui.widgets.states import mark

COLUMNS = (
    Column("candidate", "prompt"),
    Column("dense", "dense", 6, numeric=True),
    Column("compressed", "compr.", 6, numeric=True),
    Column("difference", "diff", 5, numeric=True),
    Column("interval", "95% int.", 11, sortable=False, least=48),
    Column("verdict", "verdict", 10, mark),
    Column("tokens", "tok", 4, numeric=True, least=56),
    Column("ms", "ms", 5, lambda ms: figures.number(ms, 1), numeric=True, least=62),
    Column("round", "round", 5, numeric=True, least=68),
    Column("rows", "rows", 9, numeric=True, least=100),
)


class Judged(NamedTuple):
    """How a step's prompts are compared: with which, None where there is none, and on the model as it was loaded (`dense`)
    where all of them met no other.
    """

    base: str | None
    dense: bool


def judged(state: RunState) -> dict[int, Judged]:
    """By step; the baseline is what the step had to beat, or what it began with while it is going."""
    had = {choice["step"]: str(choice["baseline"]) for choice in outcome.winners(state) if choice["baseline"]}
    of_step: dict[int, list[str]] = {}
    for name, known in state.candidates.items():
        of_step.setdefault(known.step, []).append(name)
    return {
        step: Judged(had.get(step, _began(names)), all(score(state.candidates[name], False) is None for name in names))
        for step, names in of_step.items()
    }


def _began(names: Iterable[str]) -> str | None:
    """What a search began with, of these prompts in their order."""
    found = list(names)
    began = {outcome.part(name): name for name in reversed(found)}
    return began.get("first") or began.get("plain") or next(iter(found), None)


def baseline(state: RunState) -> str | None:
    """The prompt that the last finished step had to beat."""
    had = [str(choice["baseline"]) for choice in outcome.winners(state) if choice["baseline"]]
    return had[-1] if had else _began(state.candidates)


def winner(state: RunState) -> str | None:
    """The prompt that the last finished step chose."""
    chosen = outcome.winners(state)
    return str(chosen[-1]["winner"]) if chosen else None


def score(candidate: CandidateState, dense: bool) -> ev.CandidateScored | None:
    """The figure that counts: test before dev rows, the latest before the older; of the dense or compressed model in memory."""
    scores = [s for s in candidate.scores.values() if (s.stage == "dense") == dense and not outcome.of_file(s.stage)]
    return max(scores, key=lambda s: (s.split == "test", s.seq), default=None)


def comparison(state: RunState, name: str) -> ev.PromptsCompared | None:
    """The paired comparison of a prompt with its baseline on the compressed model, if any, on test rows where there is one;
    told of the figure that counts where there are several.
    """
    return _against(state, name, judged(state)[state.candidates[name].step])


def _against(state: RunState, name: str, how: Judged) -> ev.PromptsCompared | None:
    if how.base in (name, None):
        return None
    counts = score(state.candidates[name], how.dense)
    shown = counts and (counts.stage, counts.calibration)
    told = [c for c in state.comparisons if {c.a, c.b} == {name, how.base} and (c.stage == "dense") == how.dense]
    found = [c if c.a == name else outcome.turned(c) for c in told if c.split != "confirm"]
    return max(found, key=lambda c: (c.split == "test", (c.stage, c.calibration) == shown, c.seq), default=None)


def confirmation(state: RunState, compared: ev.PromptsCompared) -> ev.PromptsCompared | None:
    """The same comparison on the task's confirm rows, where it was tried there."""
    about = {compared.a, compared.b}, compared.step, compared.stage, compared.calibration
    told = [
        c for c in state.comparisons if ({c.a, c.b}, c.step, c.stage, c.calibration) == about and c.split == "confirm"
    ]
    return next((c if c.a == compared.a else outcome.turned(c) for c in told), None)


def rows(state: RunState) -> dict[str, dict[str, Any]]:
    """One row a prompt: the chosen one, the baseline, then those that lasted longest and did best."""
    best, how = winner(state), judged(state)
    first = [best, baseline(state)]

    def rank(name: str) -> tuple[int, int, float]:
        candidate = state.candidates[name]
        scored = score(candidate, how[candidate.step].dense)
        place = first.index(name) if name in first else len(first)
        better = 0.0 if scored is None else scored.accuracy if figures.lower(scored.metric) else -scored.accuracy
        return place, -candidate.round, better

    return {
        name: {**_row(state, name, how[known.step]), "candidate": ("★ " if name == best else "") + name}
        for name, known in sorted(state.candidates.items(), key=lambda item: rank(item[0]))
    }


def _row(state: RunState, name: str, how: Judged) -> dict[str, Any]:
    """The cells of a prompt."""
    candidate, compared, base = state.candidates[name], _against(state, name, how), how.base
    dense, compressed = score(candidate, True), score(candidate, False)
    counts = dense if how.dense else compressed
    metric = next((figure.metric for figure in (compressed, dense) if figure), "")
    difference = compared.difference if compared else _apart(counts, state.candidates.get(base or ""))
    return {
        "dense": dense and Shown(dense.accuracy, figures.quality(dense.metric, dense.accuracy)),
        "compressed": compressed
        and Shown(compressed.accuracy, figures.quality(compressed.metric, compressed.accuracy)),
        "difference": None
        if difference is None or name == base
        else Shown(difference, figures.plain(metric, difference, "+")),
        "interval": compared and " ".join(figures.plain(metric, end, "+") for end in (compared.low, compared.high)),
        "verdict": "baseline" if name == base else compared and compared.verdict,
        "tokens": candidate.tokens or None,
        "ms": max((s.ms for s in candidate.scores.values()), default=0.0) or None,
        "round": Shown((candidate.round, candidate.alive), f"{candidate.round} {'in' if candidate.alive else 'out'}"),
        "rows": Shown((counts.n, counts.split), f"{counts.split} {counts.n}") if counts else None,
    }


def _apart(counts: ev.CandidateScored | None, base: CandidateState | None) -> float | None:
    """How far a figure is from the baseline's own of the same model, calibration and number of rows; None without one."""
    own = base.scores.get((counts.stage, counts.split, counts.calibration)) if counts and base else None
    return counts.accuracy - own.accuracy if counts and own and own.n == counts.n else None


def detail(state: RunState, name: str) -> Text:
    """One prompt in full: where it comes from, all its figures, the text as the model sees it."""
    candidate = state.candidates[name]
    origin = f" · {candidate.origin}" if candidate.origin else ""
    text = Text.assemble((name, "bold"), (f"{origin} · {candidate.tokens} tokens\n", "bright_black"))
    for (stage, split, calibration), s in candidate.scores.items():
        metric = "" if s.metric == "accuracy" else f"{s.metric} "
        text.append(f"{stage:<9}{split:<5}{metric}{figures.quality(s.metric, s.accuracy, s.low, s.high)}", "")
        text.append(f" n={s.n} {calibration}\n", "bright_black")
    for (stage, perturbation), found in candidate.perturbed.items():
        change = (found.change_low, found.change_high)
        shown = figures.disturbed(found.accuracy, found.before, found.metric, *change)
        text.append(f"{stage:<9}{perturbation:<11}{shown}")
        text.append(f" n={found.n}, {found.changed} disturbed\n", "bright_black")
    won = state.recovered.get((candidate.step, "", name))
    if won:
        lost = figures.difference(-won.gap, -won.gap_high, -won.gap_low)
        text.append(f"{won.stage:<9}recovered {figures.ratio(won.value, won.low, won.high)}")
        text.append(f" of {lost} n={won.n}\n", "bright_black")
    compared = comparison(state, name)
    for told, on in ((compared, ""), (compared and confirmation(state, compared), " on confirm rows")):
        if told:
            shown = figures.difference(told.difference, told.low, told.high, told.metric)
            text.append_text(mark(told.verdict))
            text.append(f" against {told.b}{on}: {shown}, p {figures.p_value(told.p_value)}, n={told.n}\n")
    text.append("\n" + candidate.text)
    return text
