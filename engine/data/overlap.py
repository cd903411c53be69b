"""Rows that are asked in the test split and in the train or dev split too: a figure on rows that a prompt shows, was trained on
or was chosen by says little. Equal are questions that read the same, case, blanks and punctuation aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from engine.data.options import TaskOptions
from engine.data.rows import Row, named
from engine.errors import Unavailable, UsageError

FEW = 0.01  # share of the test rows: public data sets repeat a handful, more is another mistake
PUNCTUATION = re.compile(r"[^\w\s](?!\s*\d)")  # the sign ahead of a number is none: 3 - 4 is not 3 + 4


@dataclass(frozen=True)
class Overlap:
    """Train and dev rows that the test split asks too, and how many of its `tested` rows they are."""

    train: list[Row]
    dev: list[Row]
    tested: int

    def __str__(self) -> str:
        counts = {"train": len(self.train), "dev": len(self.dev)}
        which = " and ".join(f"{count} {split} rows" for split, count in counts.items() if count)
        text = [*self.train, *self.dev][0].text[:60]
        return f"{which} are in the test split too, case, blanks and punctuation aside, as {text!r}"


def question(row: Row, template: str, free: bool = False) -> str:
    """What a row asks: the fields that the template shows and, but for `free` answers, those to choose from."""
    own = [] if free or len(row.choices) == 1 else row.choices
    parts = [*(row.fields[name] for name in named(template)), *own]
    return "\n".join(" ".join(PUNCTUATION.sub(" ", part).casefold().split()) or part for part in parts)


def together(rows: Iterable[Row], template: str, free: bool = False) -> list[list[Row]]:
    """The rows in groups of equal text or equal question, directly or by way of others, in the order of their first rows."""
    leader: dict[tuple[str, str], tuple[str, str]] = {}

    def lead(node: tuple[str, str]) -> tuple[str, str]:
        while leader.setdefault(node, node) != node:
            node = leader[node]
        return node

    rows = list(rows)
    for row in rows:
        leader[lead(("question", question(row, template, free)))] = lead(("text", row.text))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(lead(("text", row.text)), []).append(row)
    return list(groups.values())


def found(splits: Mapping[str, list[Row]], template: str, free: bool = False) -> Overlap | None:
    """The overlap of the splits, None where there is none."""
    asked = partial(question, template=template, free=free)
    tested = set(map(asked, splits["test"]))
    train, dev = ([r for r in splits[s] if asked(r) in tested] for s in ("train", "dev"))
    copied = set(map(asked, [*train, *dev]))
    count = sum(asked(row) in copied for row in splits["test"])
    return Overlap(train, dev, count) if count else None


def settle(splits: Mapping[str, list[Row]], options: TaskOptions, name: str) -> tuple[dict[str, list[Row]], str]:
    """The splits as the task's `overlap` wants them, and words on what was found.

    Raises UsageError for an overlap that is refused, Unavailable where nothing else is left of a split.
    """
    overlap = found(splits, options.template, bool(options.answer_column))
    if overlap is None:
        return dict(splits), ""
    few = overlap.tested <= FEW * len(splits["test"])
    if options.overlap == "refuse" or (options.overlap == "auto" and not few):
        hint = 'overlap = "drop" leaves them out of train and dev, "allow" keeps them'
        raise UsageError(str(overlap), where=f"task {name}", hint=hint)
    if options.overlap == "allow":
        return dict(splits), f"task {name}: {overlap}; they stay, and its figures on the test split are too good for it"
    dropped = {id(row) for row in [*overlap.train, *overlap.dev]}
    kept = {split: [row for row in rows if id(row) not in dropped] for split, rows in splits.items()}
    for split, rows in kept.items():
        if not rows:
            hint = "name another file for it"
            raise Unavailable(f"every {split} row is in the test split too", where=f"task {name}", hint=hint)
    return kept, f"task {name}: {overlap}; they are left out"
