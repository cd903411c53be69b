"""`pareto`: every measured artifact of a model over all runs, and which of them nothing else beats."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import figures, files
from engine.errors import DONE, Unavailable, did_you_mean
from tui import output

if TYPE_CHECKING:
    from engine.archive import Measured

HEADERS = ("", "run", "format", "size", "perplexity", "decode tok/s", "steps")


def pareto(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model as profiles name it in model.source.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Dominated artifacts too.")] = False,
) -> int:
    """The artifacts of a model that no other beats in size, perplexity and speed."""
    from engine import archive, profile

    try:
        found, models = archive.of_model(profile.source(model)), archive.models()
    except (OSError, sqlite3.Error) as error:
        message = f"the archive of artifacts cannot be read: {error}"
        raise Unavailable(
            message, where=str(files.archive_file()), hint="move it away; runs begin a new one"
        ) from error
    if not found:
        hint = did_you_mean(model, models)
        raise Unavailable("no exported artifact of this model was measured", where=model, hint=hint)
    best = archive.front(found)
    shown = [(artifact, good) for artifact, good in zip(found, best, strict=True) if good or all_]
    shown.sort(key=lambda pair: pair[0].bytes)
    if as_json:
        for artifact, good in shown:
            output.data(json.dumps({**asdict(artifact), "dominated": not good}))
        return DONE
    right = ("size", "perplexity", "decode tok/s")
    header, *lines = output.table(HEADERS, [_cells(artifact, good) for artifact, good in shown], right)
    output.data(header)
    for line, (_, good) in zip(lines, shown, strict=True):
        output.data(line if good else output.paint(line, output.DIM))
    output.note(
        f"{sum(best)} of {len(found)} artifacts, measured on {found[-1].text}; each of the others is nowhere better than "
        "another one and worse in something (perplexities whose intervals overlap are a tie)"
    )
    return DONE


def _cells(artifact: Measured, good: bool) -> list[str]:
    return [
        "●" if good else "·", Path(artifact.run).name, artifact.format, figures.size(artifact.bytes),
        figures.number(artifact.perplexity), figures.number(artifact.decode, 1), artifact.steps,
    ]  # fmt: skip
