"""`prompt`: the prompt that a run chose, filled in."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.errors import UsageError
from tui import output
from tui.commands.runs import Reference

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
    """Print the winning prompt, filled in; without values, as it is. One chosen as a chat is always messages."""
    from engine import outcome, runs
    from engine.prompts import kept

    folder = outcome.chosen_folder(runs.find(reference), task)
    found = kept.read(folder)
    given = _pairs(values or [])
    row = kept.asked(found.prompt, given) if given else None
    if messages or found.prompt.chat != "off":
        output.data(json.dumps(found.prompt.messages(row), indent=2, ensure_ascii=False))
    else:
        output.data(found.prompt.fill(row) if row else found.prompt.text())
    if found.virtual:
        output.note(f"{found.virtual} virtual tokens belong ahead of this text: peft loads them from {folder}")


def _pairs(values: list[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, sign, _ in pairs:
        if not sign:
            raise UsageError(f"{name!r} is no FIELD=VALUE", hint='as in text="a fine film"')
    return {name: value for name, _, value in pairs}
