"""What a perturbation is given and gives back: a prompt and the rows it is asked about, the same question otherwise put.

A perturbation is a file in `perturbations/` with

    def perturb(asked: Asked) -> Asked
    WRITES = True           # only where it has the dense model write

All chance of a row comes from `generator(asked, its digest)`, so that every prompt and every model meets the same disturbed
rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.data.rows import Row, named
from engine.prompts.requests import Answer
from engine.prompts.template import Prompt


@dataclass(frozen=True)
class Asked:
    """`write(requests)` has the dense model answer, one text a request."""

    prompt: Prompt
    rows: Sequence[Row]
    seed: str
    write: Callable[[Sequence[str]], list[Answer]]


def generator(asked: Asked, about: str) -> random.Random:
    return random.Random(f"{asked.seed} {about}")


def texts(prompt: Prompt, row: Row) -> dict[str, str]:
    """The fields of a row that the prompt's template shows."""
    shown = named(prompt.template)
    return {name: value for name, value in row.fields.items() if name in shown}


def each_text(asked: Asked, change: Callable[[str, random.Random], str]) -> Asked:
    """Every shown field of every row changed, whatever others are shown; what the choices are and which one is right stays."""
    rows = []
    for row in asked.rows:
        shown = texts(asked.prompt, row).items()
        changed = {name: change(value, generator(asked, f"{row.digest} {name}")) for name, value in shown}
        rows.append(replace(row, fields={**row.fields, **changed}))
    return replace(asked, rows=rows)
