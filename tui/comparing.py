"""What runs amounted to, side by side: their figures, what their models differ by, and their winning prompts, as lines and as
records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine import figures, outcome
from engine.state import RunState
from tui import output

if TYPE_CHECKING:
    from engine.versus import Apart, Difference

HEADERS = ("figure", "difference", "n", "p Holm", "verdict")


def lines(
    states: Sequence[RunState], names: Sequence[str], compared: Sequence[Difference], apart: Sequence[Apart]
) -> list[str]:
    """A table of the figures with a column a run, each one's differences from the first, then every run's winning prompts."""
    cells = [["", "state", *map(output.status, states)]]
    cells += [[stage, name, *(_shown(name, m) for m in found)] for (stage, name), found in figures_of(states).items()]
    said = output.table(["stage", "figure", *names], cells)
    for models in dict.fromkeys(map(_models, compared)):
        said += ["", f"{models}, on the same windows or rows"]
        said += output.table(HEADERS, [_cells(d) for d in compared if _models(d) == models])
    said += ["", *(f"{one.a} against {one.b}: {one.figure} is {one.reason}" for one in apart)] if apart else []
    for run, state in zip(names, states, strict=True):
        for prompt in best(state):
            said += ["", *_prompt_lines(run, prompt)]
    return said


def differences(states: Sequence[RunState], names: Sequence[str]) -> tuple[list[Difference], list[Apart]]:
    """The runs' last models against the first run's, paired, and what cannot be compared."""
    from engine import versus  # loads scipy

    return versus.differences(states, names)


def best(state: RunState) -> list[dict[str, Any]]:
    """The winning prompts of a run with their figures."""
    return [_best(state, winner) for winner in outcome.winners(state)]


def figures_of(states: Sequence[RunState]) -> dict[tuple[str, str], list[ev.Metric | None]]:
    """(stage, metric) -> its measurement in every run, in the order of the first run that has it."""
    keys = dict.fromkeys((stage, name) for s in states for stage, found in s.metrics.items() for name in found)
    stages = dict.fromkeys(stage for stage, _ in keys)
    ordered = [key for stage in stages for key in keys if key[0] == stage]
    return {key: [state.metrics.get(key[0], {}).get(key[1]) for state in states] for key in ordered}


def _shown(name: str, metric: ev.Metric | None) -> str:
    if metric is None:
        return figures.NOTHING
    return figures.metric(name, metric.value, metric.low, metric.high)


def _models(d: Difference) -> str:
    return f"{d.a} {d.stage_a} against {d.b} {d.stage_b}"


def _cells(d: Difference) -> list[str]:
    shown = figures.change if d.figure == figures.PERPLEXITY else figures.difference
    return [d.figure, shown(d.difference, d.low, d.high), str(d.n), figures.p_value(d.p_holm), d.verdict]


def _best(state: RunState, winner: dict[str, Any]) -> dict[str, Any]:
    """A winning prompt with its row of the result table, under the calibration that it was chosen with."""
    wanted = {"prompt": winner["winner"], "calibration": winner["calibration"], "task": winner["task"]}
    start = f"{winner['stage']} + best"
    fitting = [r for r in outcome.rows(state) if str(r["stage"]).startswith(start) and wanted.items() <= r.items()]
    known = state.candidates.get(winner["winner"])
    measured = ("metric", "accuracy", "low", "high", "n", "against", "p_value", "p_holm", "verdict")
    row = fitting[0] if fitting else {}
    return winner | {key: row.get(key) for key in measured} | {"text": known.text if known else ""}


def _prompt_lines(run: str, prompt: dict[str, Any]) -> list[str]:
    metric = prompt["metric"] or "accuracy"
    name = "" if metric == "accuracy" else f"{metric} "
    found = [f"{name}{figures.quality(metric, prompt['accuracy'], prompt['low'], prompt['high'])}, n {prompt['n']}"]
    if prompt["against"]:
        p = f"p {figures.p_value(prompt['p_value'])}"
        p += f" ({figures.p_value(prompt['p_holm'])} by Holm)" if prompt["p_holm"] is not None else ""
        found.append(f"{p} against {prompt['against']}: {prompt['verdict']}")
    found += [words] if (words := outcome.unbeaten(prompt["winner"])) else []
    head = f"best prompt of {run} for {prompt['task']} on {prompt['stage']}, calibration {prompt['calibration']}"
    return [head, f"  {', '.join(found)}", f"  {output.plain(prompt['text'])}"]
