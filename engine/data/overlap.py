"""Rows that are asked in the test split and in the train or dev split too, or in the dev split and the train split: a figure on
rows that a prompt shows, was trained on or was chosen by says little, and so does a choice by rows that it shows. Confirm rows
are to be none of these. Equal are questions that read the same, case, blanks and punctuation aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from engine.data.options import TaskOptions
from engine.data.rows import Row, named
from engine.errors import Unavailable, UsageError

FEW = 0.01  # share of the rows that are asked again: public data sets repeat a handful, more is another mistake
BEFORE = {"test": ("train", "dev", "confirm"), "dev": ("train", "confirm"), "train": ("confirm",)}
"""which splits are not to ask what the named one asks"""
BIASED = {
    "test": "its figures on the test split are too good for it",
    "dev": "prompts that show or learned them are chosen too readily",
}
PUNCTUATION = re.compile(r"[^\w\s](?!\s*\d)")  # the sign ahead of a number is none: 3 - 4 is not 3 + 4


@dataclass(frozen=True)
class Overlap:
    """Rows of splits before it that `split` asks too, by their split, and how many of its own rows are `asked` there."""

    split: str
    copies: dict[str, list[Row]]
    asked: int

    def __str__(self) -> str:
        which = " and ".join(f"{len(rows)} {split} rows" for split, rows in self.copies.items() if rows)
        text = next(row.text for rows in self.copies.values() for row in rows)[:60]
        return f"{which} are in the {self.split} split too, case, blanks and punctuation aside, as {text!r}"


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


def found(splits: Mapping[str, list[Row]], template: str, free: bool = False, split: str = "test") -> Overlap | None:
    """What a split shares with those before it, None where that is nothing."""
    asked = partial(question, template=template, free=free)
    others = [before for before in BEFORE[split] if before in splits]
    own = set(map(asked, splits[split])) if others else set()
    copies = {before: [row for row in splits[before] if asked(row) in own] for before in others}
    copied = {asked(row) for rows in copies.values() for row in rows}
    count = sum(asked(row) in copied for row in splits[split])
    return Overlap(split, copies, count) if count else None


def settle(
    splits: Mapping[str, list[Row]], options: TaskOptions, name: str
) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """The splits as the task's `overlap` wants them, and words on what was found, first of the test split.

    Raises UsageError for an overlap that is refused, Unavailable where nothing else is left of a split.
    """
    kept, notes = dict(splits), []
    for split in BEFORE:
        overlap = found(kept, options.template, bool(options.answer_column), split)
        if overlap is not None:
            kept, what = _settled(kept, overlap, options, f"task {name}")
            notes.append(f"task {name}: {overlap}; {what}")
    return kept, tuple(notes)


def _settled(
    splits: Mapping[str, list[Row]], overlap: Overlap, options: TaskOptions, where: str
) -> tuple[dict[str, list[Row]], str]:
    """The splits without the copies, or with them where they are allowed, and what was done."""
    fresh = len(overlap.copies.get("confirm", []))
    few = overlap.asked <= FEW * len(splits[overlap.split]) and fresh <= FEW * len(splits.get("confirm", []))
    if options.overlap == "refuse" or (options.overlap == "auto" and not few):
        hint = f'overlap = "drop" leaves them out of {" and ".join(overlap.copies)}, "allow" keeps them'
        raise UsageError(str(overlap), where=where, hint=hint)
    if options.overlap == "allow":
        learned = any(rows for split, rows in overlap.copies.items() if split != "confirm")
        why = [*([BIASED[overlap.split]] if learned else []), *(["what is confirmed was seen before"] if fresh else [])]
        return dict(splits), f"they stay, and {', '.join(why)}"
    dropped = {id(row) for rows in overlap.copies.values() for row in rows}
    kept = {split: [row for row in rows if id(row) not in dropped] for split, rows in splits.items()}
    for split, rows in kept.items():
        if not rows:
            hint = "name another file for it"
            raise Unavailable(f"every {split} row is in the {overlap.split} split too", where=where, hint=hint)
    return kept, "they are left out"
