"""`report`, `compare`: what runs amounted to."""

from __future__ import annotations

import math
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import figures, strictjson
from engine.errors import DONE, GATE_MISSED, Unavailable, UsageError
from tui import output
from tui.commands.runs import Reference

if TYPE_CHECKING:
    from engine.prompts.paired import Answers
    from engine.runs import Run
    from engine.state import RunState
    from engine.versus import Apart, Difference


class Form(StrEnum):
    """How a comparison is printed."""

    text = "text"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def report(
    reference: Reference = "last",
    as_json: Annotated[bool, typer.Option("--json", help="result.json, on one line, instead of report.md.")] = False,
) -> None:
    """Print a run's report."""
    from engine import runs

    run = runs.find(reference)
    file = run.path / ("result.json" if as_json else "report.md")
    if not file.is_file() or not run.state().finished:
        output.data(_made_now(run, as_json))
    elif as_json:
        output.data(strictjson.dumps(runs.read_json(file)))
    else:
        output.data(file.read_text(encoding="utf-8").rstrip("\n"))


def compare(
    references: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Test each run's winning prompt against the first run's, row by row.")
    ] = False,
    rows: Annotated[bool, typer.Option("--rows", help="With --prompts: every test row with its answers.")] = False,
    different: Annotated[
        bool, typer.Option("--different", help="With --rows: only rows answered differently.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="With --prompts.")] = Form.text,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Exit code 4 when an accuracy, with --prompts a prompt's figure, is more than X worse than the first's.",
        ),
    ] = None,
) -> int:
    """Compare the figures, the models and the winning prompts of runs."""
    from engine import runs
    from tui import comparing

    if max_drop is not None and not 0 <= max_drop < math.inf:
        raise UsageError(f"--max-drop {max_drop:g} is no drop", hint="a number from 0 on, as in --max-drop 0.02")
    if len(references) < 2:
        raise UsageError("compare needs two runs or more", hint="compress-tui runs lists them")
    if as_json and form not in (Form.text, Form.json):
        raise UsageError(f"--json and --format {form.value} do not go together", hint="one of them")
    found = [runs.find(reference) for reference in references]
    if prompts:
        return _paired(found, Form.json if as_json else form, rows or different, different, max_drop)
    if rows or different or form != Form.text:
        raise UsageError("--rows, --different and --format go with --prompts", hint="add --prompts")
    states = [run.state() for run in found]
    names = [run.name for run in found]
    _check_drop(max_drop, "accuracy")
    compared, apart = comparing.differences(states, names)
    accuracies = [d for d in compared if d.figure != figures.PERPLEXITY]
    drops = [(f"{d.figure} of {d.a}", d.b, d.figure.partition(":")[0], -d.difference) for d in accuracies]
    if max_drop is not None:
        _check_models(states, found, drops, apart)
    if as_json:
        _tell_json(states, names, [*compared, *apart])
    else:
        output.data("\n".join(comparing.lines(states, names, compared, apart)))
    return _gate(drops, max_drop)


def _check_models(states: list[RunState], found: list[Run], drops: list[Drop], apart: list[Apart]) -> None:
    """Refuses a gate that would pass for what was not compared."""
    for state, run in zip(states, found, strict=True):
        if state.status != "done":
            name, hint = run.name, f"{run.resumed_by} ends it"
            raise UsageError(f"--max-drop: {name} has not come to its end", where=name, hint=hint)
    for one in apart:
        if one.figure != figures.PERPLEXITY:
            hint = "measure the same tasks and rows in all of them: evaluate.tasks, evaluate.rows"
            raise UsageError(f"--max-drop: {one.figure} of {one.a} is {one.reason}", hint=hint)
    if not drops:
        hint = "evaluate.tasks names the tasks that runs measure"
        raise UsageError(f"--max-drop: {found[0].name} has no accuracy that was kept row by row", hint=hint)


def _tell_json(states: list[RunState], names: list[str], differences: list[Difference | Apart]) -> None:
    """Figures, differences of models or why there are none, and prompts, a record a line."""
    from tui import comparing

    for (stage, name), metrics in comparing.figures_of(states).items():
        values = {run: metric and metric.value for run, metric in zip(names, metrics, strict=True)}
        output.data(strictjson.dumps({"stage": stage, "figure": name, "runs": values}))
    for difference in differences:
        output.data(strictjson.dumps(asdict(difference)))
    for run, state in zip(names, states, strict=True):
        for prompt in comparing.best(state):
            output.data(strictjson.dumps({"run": run, "prompt": prompt}))


def _check_drop(most: float | None, metric: str) -> None:
    if most is not None and most >= 1 and figures.shared(metric):
        hint = "of all rows 2% are --max-drop 0.02"
        raise UsageError(f"--max-drop {most:g} never misses: {metric} is a share of 1", hint=hint)


Drop = tuple[str, str, str, float]
"""what, against what, metric, how much worse"""


def _gate(drops: list[Drop], most: float | None) -> int:
    """4 when one is beyond what may be lost, each told."""
    missed = [drop for drop in drops if most is not None and drop[-1] > most]
    for a, b, metric, drop in missed:
        lost, allowed = (figures.plain(metric, value) for value in (drop, most or 0))
        unit = "nats above" if figures.lower(metric) else "points below"
        output.note(f"gate missed: {a} is {lost} {unit} {b}, at most {allowed}")
    return GATE_MISSED if missed else DONE


def _paired(found: list[Run], form: Form, rows: bool, different: bool, max_drop: float | None) -> int:
    """The paired comparison in the asked form. Returns 4 when a prompt's figure is too much worse than the first one's."""
    from engine import outcome, sections
    from engine.prompts import paired

    answers = [paired.winner_of(outcome.chosen_folder(run), str(n)) for n, run in enumerate(found, start=1)]
    metric = answers[0].metric
    _check_drop(max_drop, metric)
    compared = paired.differences(answers)
    records = list(paired.rows(answers, different)) if rows else [asdict(d) for d in compared]
    if form == Form.json:
        for record in records:
            output.data(strictjson.dumps(record))
    elif form == Form.csv:
        output.data(paired.as_csv([paired.flat(r) for r in records] if rows else records))
    else:
        headers, cells = _cells(answers, records) if rows else (paired.headers(compared), paired.cells(compared))
        make = sections.table if form == Form.markdown else output.table
        output.data("\n".join(make(headers, cells)))
    for number, run in enumerate(found, start=1):
        output.note(f"{number} is {run.name}")
    return _gate([(d.a, d.b, d.metric, d.loss) for d in compared], max_drop)


def _cells(answers: list[Answers], records: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of rows with each prompt's answer, marked as right or wrong."""
    from engine.prompts import paired

    labels = [a.label for a in answers]
    cells = [
        [r["gold"], *(f"{paired.marks(r, answers[0].metric)[x]} {r['choices'][x]}" for x in labels), r["text"]]
        for r in records
    ]
    return ["gold", *labels, "text"], cells


def _made_now(run: Run, as_json: bool) -> str:
    """The report of a run that has not written its own: one that failed, was cancelled, or is still going."""
    from engine import report as reports
    from engine import runs

    state = run.state()
    if state.status == "empty":
        raise Unavailable("the run has not said anything yet", where=run.name, hint=run.resumed_by)
    environment = runs.read_json(run.path / "environment.json")
    if as_json:
        return strictjson.dumps(reports.result(state, environment))
    return reports.markdown(state, environment).rstrip("\n")
