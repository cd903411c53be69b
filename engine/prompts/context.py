"""Rows that are too long for the model: the longest field that the template shows is cut at its end, as far as needed. The
instruction, the demonstrations and the answers stay whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.data.rows import Row, named
from engine.errors import UsageError
from engine.prompts.forward import positions
from engine.prompts.template import Prompt

if TYPE_CHECKING:
    from engine.prompts.scorer import Scorer
    from engine.workspace import Workspace

NAMED = 3  # prompts that a line names
SHORTER = "fewer or shorter demonstrations, or a shorter instruction"


def cut(prompt: Prompt, row: Row, fits: Callable[[Row], bool]) -> Row:
    """The row with as much of the field as fits. Raises UsageError where nothing of it does."""
    name = longest(prompt, row)

    def shortened(length: int) -> Row:
        return replace(row, fields={**row.fields, name: row.fields[name][:length].rstrip()})

    if not fits(bare(prompt, row)):
        message = f"no room in the model's context for {row.text[:40]!r}, not even without its {{{name}}}"
        raise UsageError(message, where=f"prompt {prompt.name}", hint=SHORTER)
    least, most = 0, len(row.fields[name])
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(shortened(middle)) else (least, middle)
    return shortened(least)


def longest(prompt: Prompt, row: Row) -> str:
    """The field that is cut."""
    return max(named(prompt.template), key=lambda field: len(row.fields[field]))


def bare(prompt: Prompt, row: Row) -> Row:
    """The row with nothing of that field: as short as it can be."""
    return replace(row, fields={**row.fields, longest(prompt, row): ""})


def tell(workspace: Workspace, scorer: Scorer) -> int:
    """Says how many rows were cut for which prompts, where any were; returns how many."""
    rows = set().union(*scorer.cut.values())
    if rows:
        names = list(scorer.cut)
        more = f" and {len(names) - NAMED} more prompts" if len(names) > NAMED else ""
        workspace.log(
            f"{len(rows)} rows do not fit in the model's {positions(scorer.subject)} positions with "
            f"{', '.join(names[:NAMED])}{more}: their longest field is cut at its end",
            "warning",
        )
    return len(rows)
