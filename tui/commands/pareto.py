"""`pareto`: every measured artifact of a model over all runs, and which of them nothing else beats."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import figures, strictjson
from engine.errors import DONE
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

    found, more = archive.found(profile.source(model))
    best = archive.front(found)
    shown = [(artifact, good) for artifact, good in zip(found, best, strict=True) if good or all_]
    shown.sort(key=lambda pair: pair[0].bytes)
    if as_json:
        for artifact, good in shown:
            output.data(strictjson.dumps({**asdict(artifact), "dominated": not good}))
        return DONE
    right = ("size", "perplexity", "decode tok/s")
    header, *lines = output.table(HEADERS, [_cells(artifact, good) for artifact, good in shown], right)
    output.data(header)
    for line, (_, good) in zip(lines, shown, strict=True):
        output.data(line if good else output.paint(line, output.DIM))
    output.note(
        f"{sum(best)} of {len(found)} artifacts, {archive.on_text(found, more)}; each of the others is nowhere better than "
        "one of them and worse in something (perplexities whose paired difference is within the noise are a tie)"
    )
    return DONE


def _cells(artifact: Measured, good: bool) -> list[str]:
    return [
        "●" if good else "·", Path(artifact.run).name, artifact.format, figures.size(artifact.bytes),
        figures.number(artifact.perplexity), figures.number(artifact.decode, 1), artifact.steps,
    ]  # fmt: skip
