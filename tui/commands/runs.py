"""`runs`, `attach`, `cancel`: what runs there are, watching one, stopping one."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import figures
from engine.errors import UsageError
from tui import output
from tui.commands import screen

if TYPE_CHECKING:
    from engine.runs import Run

LENGTHS = {"h": 3600, "d": 86400, "w": 7 * 86400}
Reference = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, the id at its end, its folder, or last.")]


def list_runs(
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
    prune_older: Annotated[
        str | None, typer.Option(metavar="AGE", help="Delete the runs that ended longer ago, as in 30d.")
    ] = None,
) -> None:
    """List the runs, newest first."""
    from engine import runs

    if prune_older is not None:
        _prune(_seconds(prune_older), as_json)
        return
    records = [_record(run) for run in runs.list_runs()]
    if as_json:
        for record in records:
            output.data(json.dumps(record))
    elif records:
        headers = ["run", "profile", "state", "age", "steps"]
        cells = [
            [r["run"], r["profile"], _waiting(r), figures.age(r["age"]), f"{r['done']}/{r['steps']}"] for r in records
        ]
        output.data("\n".join(output.table(headers, cells, right=["age", "steps"])))
    else:
        output.note("no runs yet")
        output.note(output.paint_prefix("hint: compress-tui run --profile demo"))


def attach(
    context: typer.Context,
    reference: Reference,
    plain: Annotated[bool, typer.Option("--plain", help="Follow in lines, without the screen.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --plain: events as JSON lines.")] = False,
) -> int:
    """Watch a run, live or recorded."""
    from engine import runs

    run = runs.find(reference)
    if as_json and not plain:
        raise UsageError("--json goes with --plain")
    if plain:
        return follow(run, as_json)
    return screen.open_app(None, run=str(run.path), mouse=context.obj.mouse)


def cancel(reference: Reference) -> None:
    """Ask a run to stop at the next safe point; run --resume goes on with it."""
    from engine import runs

    run = runs.find(reference)
    runs.send_signal(run)
    output.note(f"asked {run.name} to stop; what is finished is kept")
    output.note(output.paint_prefix(f"hint: go on with: {run.resumed_by}"))


def follow(run: Run, as_json: bool = False) -> int:
    """Shows events until the run ends; Ctrl-C stops the watching only. Returns the run's exit code."""
    from engine import runs
    from tui.commands.run import Printer

    show = Printer(run, as_json, to_the_end=False)
    try:
        for event in runs.follow(run):
            show(event)
    except KeyboardInterrupt:
        output.note(f"no longer watching {run.name}")
        raise
    show.results()
    return show.state.exit_code or 0


def _record(run: Run) -> dict[str, Any]:
    state = run.state()
    own = [step for index, step in state.steps.items() if index >= 0]
    return {
        "run": run.name,
        "profile": state.profile,
        "status": state.status,
        "state": output.status(state),
        "ahead": state.ahead,
        "exit_code": state.exit_code,
        "age": time.time() - _last_change(run),
        "done": sum(step.status == "done" for step in own),
        "steps": len(own),
        "path": str(run.path),
    }


def _waiting(record: dict[str, Any]) -> str:
    """A run's state, and whom it waits for."""
    from tui.follow import behind

    return f"{record['state']} {behind(record['ahead'])}".rstrip()


def _last_change(run: Run) -> float:
    file = run.events_file if run.events_file.exists() else run.profile_file
    return file.stat().st_mtime


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", age)
    if not found:
        raise UsageError(f"{age!r} is not an age", where="--prune-older", hint="hours, days or weeks: 12h, 30d, 8w")
    return int(found[1]) * LENGTHS[found[2]]


def _prune(seconds: float, as_json: bool) -> None:
    """Deletes the runs that ended so long ago, and says which: names, or records as of a list."""
    from engine import runs

    for run in runs.list_runs():
        if time.time() - _last_change(run) > seconds and not run.alive():
            said = json.dumps(_record(run)) if as_json else run.name
            runs.remove(run)
            output.data(said)
