"""`list`: the names that profiles may use, read from file names without importing the pieces."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.errors import UsageError, did_you_mean
from tui import output

KINDS = (
    "criteria",
    "allocations",
    "structures",
    "scores",
    "methods",
    "optimizers",
    "adjusters",
    "perturbations",
    "metrics",
    "formats",
    "tasks",
    "steps",
)


def show(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="Which family of pieces.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """List what a profile may name, with a line on each."""
    if kind not in KINDS:
        raise UsageError(f"nothing called {kind!r} to list", hint=did_you_mean(kind, KINDS))
    entries = _entries(kind)
    records = (json.dumps({"name": name, "summary": summary}) for name, summary in entries.items())
    for line in records if as_json else output.listing(entries):
        output.data(line)


def _entries(kind: str) -> dict[str, str]:
    """Name and description."""
    from engine.registry import FAMILIES, STEPS

    if kind == "steps":
        return {name: entry.summary() for name, entry in STEPS.items()}
    family = FAMILIES[kind]
    return {name: family.summary(name) for name in family.names()}
