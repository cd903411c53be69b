"""`run`: a profile from start to end, here or detached; and going on with a run that was stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import EngineError, UsageError
from tui import output
from tui.commands.profile import Overrides

if TYPE_CHECKING:
    from engine import events as ev
    from engine.profile import Profile
    from engine.runs import Run
    from engine.state import RunState


def run(
    context: typer.Context,
    profile: Annotated[str | None, typer.Option("--profile", metavar="FILE", help="A file or shipped name.")] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Events as JSON lines on stdout.")] = False,
    run_dir: Annotated[str | None, typer.Option(metavar="DIR", help="The run's folder, new or to resume.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run-dir, or with the last run.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background; prints the run's name.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Wait until the runs before it have ended.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let a python: model run its code.")] = False,
    processes: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes that train together.")] = None,
) -> int:
    """Run a profile without the screen."""
    from engine import queueing

    profile = _one_profile(context.obj.profile, profile)
    if resume:
        _nothing_else({"--profile": profile, "--set": overrides, "--processes": processes})
        found = _stopped(run_dir or "last", allow_code)
        if (code := _done(found, as_json)) is not None:
            return code
    elif queue and run_dir:
        raise UsageError("--queue does not go with --run-dir: queued runs are in the runs folder")
    else:
        together = [] if processes is None else [f"processes={processes}"]
        found = _created(profile, [*(overrides or []), *together], run_dir, allow_code)
    if queue:
        queueing.join(found)
    if detach:
        return _detach(found, allow_code, as_json)
    from engine import worker

    show = Printer(found, as_json, to_the_end=True)
    code = worker.execute(found, allow_code=allow_code, also=show)
    show.results()
    output.note(f"everything is in {found.path}")
    return code


class Printer:
    """Shows events as they come: JSON on stdout or lines on stderr, and at the end the result table on stdout.

    With `to_the_end` a reader who leaves ends the showing and not the work, and what a resumed run did before counts.
    """

    def __init__(self, run: Run, as_json: bool, *, to_the_end: bool) -> None:
        from engine.state import RunState
        from tui.narration import Narrator

        self.state = RunState.of(run.events() if to_the_end else [])
        self._narrate = Narrator(run.resumed_by)
        self._json, self._to_the_end, self._read = as_json, to_the_end, True

    def __call__(self, event: ev.Event) -> None:
        from engine.events import RunFailed, to_json

        self.state.apply(event)
        if self._json:
            self._data(to_json(event))
        if not self._json or isinstance(event, RunFailed):
            for line in self._narrate(event):
                output.note(output.paint_prefix(line))

    def results(self) -> None:
        """The result table, where there are results."""
        from engine import report

        if not self._json and report.rows(self.state):
            self._data("\n".join(result_table(self.state)))

    def _data(self, text: str) -> None:
        try:
            if self._read:
                output.data(text)
        except output.ReaderGone:
            self._read = False
            if not self._to_the_end:
                raise


def result_table(state: RunState) -> list[str]:
    """The run's result table for a terminal: quality first, then cost, each about as wide as a screen."""
    from engine.outcome import COLUMNS, COST, WORDS, table

    quality = table(state, [column for column in COLUMNS if column not in COST])
    cost = table(state, ["stage", *COST], prompts=False)
    lines: list[str] = []
    for headers, cells in (quality, cost):
        if len(headers) > 1:
            lines += [""] * bool(lines) + output.table(headers, cells, right=set(headers) - set(WORDS))
    return lines + grid_tables(state)


def grid_tables(state: RunState) -> list[str]:
    """What a walk over levels amounts to: accuracies, and what is recovered."""
    from engine import grids

    lines: list[str] = []
    for step in grids.steps(state):
        for headers, cells in (grids.grid(state, step, intervals=False), grids.recovered(state, step)):
            lines += _grid_table(headers, cells)
    return lines + _grid_table(*grids.chosen(state))


def _grid_table(headers: list[str], cells: list[list[str]]) -> list[str]:
    return ["", *output.table(headers, cells, right=set(headers) - {"level", "stage", "prompt"})] if cells else []


def _one_profile(of_app: str | None, of_command: str | None) -> str | None:
    if of_app and of_command:
        raise UsageError("--profile is given twice, to the app and to run", hint="give it once, after run")
    return of_command or of_app


def _nothing_else(given: dict[str, object]) -> None:
    for option in (name for name, value in given.items() if value):
        raise UsageError(f"{option} does not go with --resume: a run goes on with its own profile")


def _created(reference: str | None, overrides: list[str], run_dir: str | None, allow_code: bool) -> Run:
    from engine import profile, runs

    if reference is None:
        raise UsageError("run needs a profile", hint="compress-tui run --profile demo")
    checked = profile.load(reference, overrides)
    code_allowed(checked, allow_code)
    return runs.create(checked.name, profile.dump(checked), Path(run_dir).expanduser() if run_dir else None)


def _stopped(reference: str, allow_code: bool) -> Run:
    """The run to go on with."""
    from engine import profile, runs

    run = runs.find(reference)
    code_allowed(profile.load(str(run.profile_file)), allow_code)
    if run.alive():
        raise UsageError("the run is still going", where=run.name, hint=run.attached_by)
    return run


def _done(run: Run, as_json: bool) -> int | None:
    """The exit code of a run that ended by itself, its end and its results shown again; None where something is left to do."""
    if (state := run.state()).status != "done":
        return None
    show = Printer(run, as_json, to_the_end=True)
    show(run.events()[-1])
    show.results()
    output.note(f"nothing is left to do; everything is in {run.path}")
    return state.exit_code


def code_allowed(profile: Profile, allow_code: bool) -> None:
    """Raises UsageError for a model that runs code, unless that is allowed."""
    source = profile.model.source
    if source.startswith("python:") and not allow_code:
        raise UsageError("the model runs code of yours", where=source, hint="--allow-code, if you trust it")


def _detach(run: Run, allow_code: bool, as_json: bool) -> int:
    """Starts the worker in the background and prints the name it answers to."""
    from engine import runs

    said = len(run.events())
    process = runs.start_detached(run, allow_code=allow_code)
    while process.poll() is None and len(run.events()) == said:
        time.sleep(0.05)  # until the worker speaks, so that attach and cancel find it at work
    if len(run.events()) == said:
        raise EngineError(f"the worker did not start\n{run.log_tail()}", where=run.name)
    output.data(json.dumps({"run": run.name, "path": str(run.path)}) if as_json else run.reference)
    output.note(output.paint_prefix(f"hint: {run.attached_by}"))
    return 0
