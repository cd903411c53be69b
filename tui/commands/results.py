"""`report`, `compare`: what runs amounted to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import figures
from engine.errors import Unavailable, UsageError
from tui import output
from tui.commands.runs import Reference

if TYPE_CHECKING:
    from engine import events as ev
    from engine.runs import Run
    from engine.state import RunState


def report(
    reference: Reference = "last",
    as_json: Annotated[bool, typer.Option("--json", help="result.json instead of report.md.")] = False,
) -> None:
    """Print a run's report."""
    from engine import runs

    run = runs.find(reference)
    file = run.path / ("result.json" if as_json else "report.md")
    if file.is_file() and run.state().finished:
        output.data(file.read_text(encoding="utf-8").rstrip("\n"))
        return
    output.data(_made_now(run, as_json))


def compare(
    references: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """Compare the figures and the winning prompts of runs, side by side."""
    from engine import outcome, runs

    if len(references) < 2:
        raise UsageError("compare needs two runs or more", hint="compress-tui runs lists them")
    found = [runs.find(reference) for reference in references]
    states = [run.state() for run in found]
    names = [run.name for run in found]
    figures_of = _figures(states)
    best = [[_best(state, winner) for winner in outcome.winners(state)] for state in states]
    if as_json:
        for (stage, name), metrics in figures_of.items():
            values = {run: metric and metric.value for run, metric in zip(names, metrics, strict=True)}
            output.data(json.dumps({"stage": stage, "figure": name, "runs": values}))
        for run, prompts in zip(names, best, strict=True):
            for prompt in prompts:
                output.data(json.dumps({"run": run, "prompt": prompt}, ensure_ascii=False))
        return
    cells = [["", "state", *map(output.status, states)]]
    cells += [[stage, name, *(_shown(name, m) for m in metrics)] for (stage, name), metrics in figures_of.items()]
    output.data("\n".join(output.table(["stage", "figure", *names], cells)))
    for run, prompts in zip(names, best, strict=True):
        for prompt in prompts:
            output.data("\n" + _prompt_lines(run, prompt))


def _figures(states: list[RunState]) -> dict[tuple[str, str], list[ev.Metric | None]]:
    """(stage, metric) -> its measurement in every run, in the order of the first run that has it."""
    keys = dict.fromkeys((stage, name) for s in states for stage, found in s.metrics.items() for name in found)
    stages = dict.fromkeys(stage for stage, _ in keys)
    ordered = [key for stage in stages for key in keys if key[0] == stage]
    return {key: [state.metrics.get(key[0], {}).get(key[1]) for state in states] for key in ordered}


def _shown(name: str, metric: ev.Metric | None) -> str:
    if metric is None:
        return figures.NOTHING
    return figures.metric(name, metric.value, metric.low, metric.high)


def _best(state: RunState, winner: dict[str, Any]) -> dict[str, Any]:
    """A winning prompt with its row of the result table, under the calibration that it was chosen with."""
    from engine import outcome

    wanted = {"prompt": winner["winner"], "calibration": winner["calibration"], "task": winner["task"]}
    start = f"{winner['stage']} + best"
    fitting = [r for r in outcome.rows(state) if str(r["stage"]).startswith(start) and wanted.items() <= r.items()]
    known = state.candidates.get(winner["winner"])
    measured = ("accuracy", "low", "high", "n", "p_value", "verdict")
    row = fitting[0] if fitting else {}
    return winner | {key: row.get(key) for key in measured} | {"text": known.text if known else ""}


def _prompt_lines(run: str, prompt: dict[str, Any]) -> str:
    accuracy = figures.accuracy(prompt["accuracy"], prompt["low"], prompt["high"])
    verdict = f"p {figures.p_value(prompt['p_value'])} against the plain prompt: {prompt['verdict'] or figures.NOTHING}"
    head = f"best prompt of {run} for {prompt['task']} on {prompt['stage']}, calibration {prompt['calibration']}"
    return f"{head}\n  {accuracy}, n {prompt['n']}, {verdict}\n  {output.plain(prompt['text'])}"


def _made_now(run: Run, as_json: bool) -> str:
    """The report of a run that has not written its own: one that failed, was cancelled, or is still going."""
    from engine import report as reports
    from engine import runs

    state = run.state()
    if state.status == "empty":
        raise Unavailable("the run has not said anything yet", where=run.name)
    environment = runs.read_json(run.path / "environment.json")
    if as_json:
        return json.dumps(reports.result(state, environment), indent=2, ensure_ascii=False)
    return reports.markdown(state, environment).rstrip("\n")
