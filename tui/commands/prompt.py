"""`prompt`: the prompt that a run chose, filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UsageError, did_you_mean
from tui import output
from tui.commands.runs import Reference

if TYPE_CHECKING:
    from engine.runs import Run

app = typer.Typer(help="Use the prompt that a run chose.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Use the prompt that a run chose."""


@app.command("apply")
def apply(
    reference: Reference,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE...", help="What goes into the template's fields.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Which task's prompt; the last one chosen by default.")] = None,
    messages: Annotated[bool, typer.Option("--messages", help="Chat messages as JSON instead of text.")] = False,
) -> None:
    """Print the winning prompt, filled in; without values, as it is."""
    from engine import runs
    from engine.prompts import kept

    folder = _folder(runs.find(reference), task)
    found = kept.read(folder)
    given = _pairs(values or [])
    if messages:
        output.data(json.dumps(kept.messages(found.prompt, given or None), indent=2, ensure_ascii=False))
    else:
        output.data(found.prompt.fill(kept.asked(found.prompt, given)) if given else found.prompt.text())
    if found.virtual:
        output.note(f"{found.virtual} virtual tokens belong ahead of this text: peft loads them from {folder}")


def _pairs(values: list[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, sign, _ in pairs:
        if not sign:
            raise UsageError(f"{name!r} is no FIELD=VALUE", hint='as in text="a fine film"')
    return {name: value for name, _, value in pairs}


def _folder(run: Run, task: str | None) -> Path:
    """Where the last prompt that the run chose is kept, or the last for the task."""
    from engine import outcome

    state = run.state()
    found = [w for w in outcome.winners(state) if task in (None, w["task"])]
    if not found:
        tasks = list(dict.fromkeys(w["task"] for w in outcome.winners(state)))
        hint = did_you_mean(task, tasks) if task and tasks else "a run with a prompt step has one"
        raise UsageError(f"the run chose no prompt{f' for {task}' if task else ''}", where=run.name, hint=hint)
    name = state.steps[found[-1]["step"]].summary.get("prompts", "prompts")
    return Path(run.artifacts, name)
