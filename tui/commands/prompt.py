"""`prompt`: the prompt that a run chose, filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UsageError
from tui import output
from tui.commands.runs import Reference

if TYPE_CHECKING:
    from engine.data.rows import Row
    from engine.prompts.kept import Kept

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
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object: text, messages, labels, calibration offsets.")
    ] = False,
) -> None:
    """Print the winning prompt, filled in; without values, as it is. One chosen as a chat is always messages."""
    from engine import outcome, runs
    from engine.prompts import kept

    folder = outcome.chosen_folder(runs.find(reference), task)
    found = kept.read(folder)
    given = _pairs(values or [])
    row = kept.asked(found.prompt, given) if given else None
    if as_json:
        output.data(json.dumps(_record(found, row), ensure_ascii=False))
    elif messages or found.prompt.chat != "off":
        output.data(json.dumps(found.prompt.messages(row), indent=2, ensure_ascii=False))
    else:
        output.data(found.prompt.fill(row) if row else found.prompt.text())
    if found.virtual:
        output.note(f"{found.virtual} virtual tokens belong ahead of this text: peft loads them from {folder}")
    if found.scored:
        output.note(f"the largest log-likelihood is not the answer: {kept.HOW[found.scores]}")
    if found.by_label:
        listed = ", ".join(f"{label} {offset:.4f}" for label, offset in found.by_label.items())
        output.note(f"answers must be calibrated: subtract from each label's log-likelihood its offset ({listed})")


def _record(found: Kept, row: Row | None) -> dict[str, Any]:
    """The prompt and all that its answers depend on; no text for a chat."""
    prompt = found.prompt
    text = (prompt.fill(row) if row else prompt.text()) if prompt.chat == "off" else None
    virtual = {"virtual_tokens": found.virtual} if found.virtual else {}
    return {
        "task": found.task, "name": prompt.name, "text": text, "messages": prompt.messages(row), "labels": found.labels,
        "calibration": found.calibration, "offsets": found.by_label, **found.scored, **virtual,
    }  # fmt: skip


def _pairs(values: list[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, sign, _ in pairs:
        if not sign:
            raise UsageError(f"{name!r} is no FIELD=VALUE", hint='as in text="a fine film"')
    return {name: value for name, _, value in pairs}
