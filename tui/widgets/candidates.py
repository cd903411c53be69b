"""The A/B table of prompts and one prompt in full, made from a run's state."""

from __future__ import annotations

from typing import Any

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


def baseline(state: RunState, name: str | None = None) -> str | None:
    """What a prompt is compared with: the one that its step had to beat; without a name, the last finished step's."""
    had = {choice["step"]: str(choice["baseline"]) for choice in outcome.winners(state) if choice["baseline"]}
    if name is None:
        others = list(state.candidates)
    else:
        step = state.candidates[name].step
        others = [other for other, known in state.candidates.items() if known.step == step]
        had = {step: had[step]} if step in had else {}
    if had:
        return list(had.values())[-1]
    began = {outcome.part(other): other for other in reversed(others)}
    return began.get("first") or began.get("plain") or next(iter(others), None)


def winner(state: RunState) -> str | None:
    """The prompt that the last finished step chose."""
    chosen = outcome.winners(state)
    return str(chosen[-1]["winner"]) if chosen else None


def score(candidate: CandidateState, dense: bool) -> ev.CandidateScored | None:
    """The figure that counts: test before dev rows, the latest before the older; of the dense or compressed model in memory."""
    scores = [s for s in candidate.scores.values() if (s.stage == "dense") == dense and not outcome.of_file(s.stage)]
    return max(scores, key=lambda s: (s.split == "test", s.seq), default=None)


def uncompressed(state: RunState, step: int) -> bool:
    """Whether all prompts of a step met the model as it was loaded and no other: then its figures are what is compared."""
    return all(score(known, False) is None for known in state.candidates.values() if known.step == step)


def comparison(state: RunState, name: str) -> ev.PromptsCompared | None:
    """The paired comparison of a prompt with its baseline on the compressed model, if any, on test rows where there is one;
    told of the figure that counts where there are several.
    """
    candidate, base = state.candidates[name], baseline(state, name)
    if base in (name, None):
        return None
    dense = uncompressed(state, candidate.step)
    judged = score(candidate, dense)
    shown = judged and (judged.stage, judged.calibration)
    told = [c for c in state.comparisons if {c.a, c.b} == {name, base} and (c.stage == "dense") == dense]
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
    best = winner(state)
    first = [best, baseline(state)]

    def rank(name: str) -> tuple[int, int, float]:
        candidate = state.candidates[name]
        scored = score(candidate, uncompressed(state, candidate.step))
        place = first.index(name) if name in first else len(first)
        better = 0.0 if scored is None else scored.accuracy if figures.lower(scored.metric) else -scored.accuracy
        return place, -candidate.round, better

    return {
        name: {**_row(state, name), "candidate": ("★ " if name == best else "") + name}
        for name in sorted(state.candidates, key=rank)
    }


def _row(state: RunState, name: str) -> dict[str, Any]:
    """The cells of a prompt; the dense figure is what is compared where its step has no other."""
    candidate, compared, base = state.candidates[name], comparison(state, name), baseline(state, name)
    dense, compressed = score(candidate, True), score(candidate, False)
    judged = dense if uncompressed(state, candidate.step) else compressed
    metric = next((figure.metric for figure in (compressed, dense) if figure), "")
    difference = compared.difference if compared else _apart(judged, state.candidates.get(base or ""))
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
        "rows": Shown((judged.n, judged.split), f"{judged.split} {judged.n}") if judged else None,
    }


def _apart(judged: ev.CandidateScored | None, base: CandidateState | None) -> float | None:
    """How far a figure is from the baseline's own of the same model, calibration and number of rows; None without one."""
    own = base.scores.get((judged.stage, judged.split, judged.calibration)) if judged and base else None
    return judged.accuracy - own.accuracy if judged and own and own.n == judged.n else None


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
