"""Tasks: labelled rows with their choices, in disjoint train, dev and test splits, and rows to confirm a verdict by, if named.

Rows come from files, hub data sets and the demo package (see tables.py). A split that no source is named for is cut
off another's rows by seed, rows of equal text or question staying together:

| named | train | dev | test |
|---|---|---|---|
| one split | 10% | 35% | 55% |
| train, test | 75% of train | 25% of train | test |
| train, dev | train | 40% of dev | 60% of dev |
| dev, test | 20% of dev | 80% of dev | test |
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.data import order, overlap, tables
from engine.data.clean import CleanCounts, normalize, select
from engine.data.options import Labels, Scores, TaskOptions, verbalized
from engine.data.rows import Row, check_fields, named
from engine.data.text import fingerprint
from engine.errors import Unavailable, inside
from engine.registry import TASKS

SPLITS = ("train", "dev", "test")
EVERY = ("confirm", "train", "dev", "test")
"""the splits, and the rows beside them, which are never cut off another's"""
SHARES: dict[tuple[str, ...], tuple[str, dict[str, float]]] = {
    ("train",): ("train", {"train": 0.10, "dev": 0.35, "test": 0.55}),
    ("dev",): ("dev", {"train": 0.10, "dev": 0.35, "test": 0.55}),
    ("test",): ("test", {"train": 0.10, "dev": 0.35, "test": 0.55}),
    ("train", "test"): ("train", {"train": 0.75, "dev": 0.25}),
    ("train", "dev"): ("dev", {"dev": 0.40, "test": 0.60}),
    ("dev", "test"): ("dev", {"train": 0.20, "dev": 0.80}),
}


@dataclass(frozen=True)
class Generation:
    """How a free answer is written: at most so many tokens, up to the text `stop` where it is not empty."""

    tokens: int
    stop: str


@dataclass(frozen=True)
class Task:
    """Rows by split. `labels` maps a file's label to its words and is empty for multiple choice, where every row has
    choices of its own; `counts` is of the cleaning, if there was one. `chat` is as the options say ("off", "on",
    "auto"), or as a tokenizer has settled it (see prompts/rendering.py); `generation` is there where answers are free."""

    name: str
    description: str
    template: str
    labels: Labels
    train: list[Row]
    dev: list[Row]
    test: list[Row]
    fingerprint: str
    counts: CleanCounts | None = field(default=None)
    notes: tuple[str, ...] = ()
    """what a run is to say of the rows"""
    chat: str = "off"
    metric: str = "accuracy"
    generation: Generation | None = None
    confirm: list[Row] = field(default_factory=list)
    """rows that a verdict on test rows is tried on once more; none where the options name none"""
    scores: Scores = "sum"

    @cached_property
    def most_choices(self) -> int:
        """The most choices that any row has."""
        return max(len(row.choices) for row in [*self.train, *self.dev, *self.test, *self.confirm])


def load_task(name: str, options: TaskOptions | None, seed: int) -> Task:
    """The task of a profile, or the built-in one of that name when `options` is None.

    Raises Unavailable for rows that are missing, unreadable, too few, or labelled outside the choices; UsageError for
    unknown columns and template fields.
    """
    if options is None:
        built_in: TaskOptions = TASKS.load(name).TASK
        options = built_in
    splits = {}
    for split in EVERY:
        if source := getattr(options, split):
            with inside(f"task.{name}.{split}"):
                splits[split], place = _rows(source, options)
            check_fields(options.template, [row.fields for row in splits[split]], place, where=f"task {name}")
    counts = _clean(splits, options)
    whole = complete(splits, seed, name, options.template, bool(options.answer_column))
    splits, notes = overlap.settle(whole, options, name)
    digest = _fingerprint(splits, options.template)
    if not options.choices_column and not options.answer_column:
        splits, more = _mixed(splits, name)
        notes += more
    labels = {} if options.choices_column else dict(options.labels)
    generation = Generation(options.max_new_tokens, options.stop) if options.answer_column else None
    return Task(
        name, options.description, options.template, labels, splits["train"], splits["dev"],
        splits["test"], digest, counts, notes, options.chat,
        options.judge, generation, splits.get("confirm", []), options.scores,
    )  # fmt: skip


def _mixed(splits: Mapping[str, list[Row]], name: str) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """The splits; those of which a part may be met in a mixed order where they are sorted by class, the same order for every
    seed: runs are compared row by row.
    """
    lying = [split for split in ("dev", "test") if order.is_sorted([row.gold for row in splits[split]])]
    notes = tuple(f"task {name}: the {split} rows are sorted by class, and are mixed" for split in lying)
    return {s: order.mixed(rows, f"mixed {s}") if s in lying else rows for s, rows in splits.items()}, notes


def complete(
    splits: Mapping[str, list[Row]], seed: int, name: str, template: str = "{text}", free: bool = False
) -> dict[str, list[Row]]:
    """All three splits, the missing ones cut off as the module says. Raises Unavailable when there are too few rows."""
    present = tuple(split for split in SPLITS if splits.get(split))
    if present == SPLITS:
        return dict(splits)
    source, shares = SHARES[present]
    return {**splits, **divide(splits[source], shares, seed, f"task {name}", template, free)}


def divide(
    rows: list[Row], shares: Mapping[str, float], seed: int, where: str, template: str, free: bool
) -> dict[str, list[Row]]:
    """`rows` in a seeded order, cut in parts of the given shares; rows of equal text or question stay together."""
    groups = overlap.together(rows, template, free)
    if len(groups) < len(shares):
        message = f"{len(groups)} different rows cannot make {len(shares)} splits"
        raise Unavailable(message, where=where, hint="name files for train, dev and test, or more rows")
    random.Random(f"split {seed}").shuffle(groups)
    cuts = _cuts(len(groups), list(shares.values()))
    parts = [groups[begin:end] for begin, end in itertools.pairwise(cuts)]
    return {split: [row for group in part for row in group] for split, part in zip(shares, parts, strict=True)}


def _cuts(count: int, shares: list[float]) -> list[int]:
    """Where `count` things are cut so that every share gets about its part and at least one."""
    cuts = [0]
    for index, share in enumerate(shares[:-1], start=1):
        most = count - (len(shares) - index)
        cuts.append(min(most, cuts[-1] + max(1, round(share * count))))
    return [*cuts, count]


def _rows(source: str, options: TaskOptions) -> tuple[list[Row], Callable[[int], str]]:
    """The rows behind one split's key, and where each of them stands."""
    whole, part = tables.ranged(source)
    path = tables.path_of(whole)
    if source.startswith("file:") and path.suffix.lower() == ".txt" and not tables.aligned(path):
        table = _labelled_lines(path, options).part(part)
    else:
        table = tables.read(source)
    texts = [text.strip() for text in table.texts(options.text_column, "text_column")]
    more: tuple[tuple[str, ...], ...] = ()
    if options.answer_column:
        values = table.column(options.answer_column, "answer_column")
        choices = [_answers(value, table.place(i)) for i, value in enumerate(values)]
    elif options.choices_column:
        values = table.column(options.choices_column, "choices_column")
        choices = [_choices(value, table.place(i)) for i, value in enumerate(values)]
    else:
        words = verbalized(options.labels).values()
        choices = [tuple(first for first, *_ in words)] * len(texts)
        if any(len(several) > 1 for several in words):
            more = tuple(several[1:] for several in words)
    golds = [0] * len(texts) if options.answer_column else _golds(table, choices, options)
    if options.choices_column:
        choices, golds = _distinct(choices, golds)
    fields = [{**_fields(row, options), "text": text} for text, row in zip(texts, table.rows, strict=True)]
    return [Row(*about, more) for about in zip(texts, fields, choices, golds, strict=True)], table.place


def _labelled_lines(path: Path, options: TaskOptions) -> tables.Table:
    """A .txt of lines `label text`, as SST-2 is often kept."""
    rows, numbers = [], []
    for number, line in enumerate(tables.lines_of(path), start=1):
        if not line.strip():
            continue
        label, _, text = line.strip().partition(" ")
        if not text.strip():
            hint = "each line is a label, a blank and the text"
            raise Unavailable("no text after the label", where=f"{path}, line {number}", hint=hint)
        rows.append({options.label_column: label, options.text_column: text})
        numbers.append(number)
    return tables.Table(str(path), rows, numbers, "line")


def _fields(row: Mapping[str, Any], options: TaskOptions) -> dict[str, str]:
    """What a template may name: every plain column but the answer."""
    hidden = {options.label_column, options.choices_column, options.answer_column}
    plain = (str, int, float)
    return {name: str(value).strip() for name, value in row.items() if name not in hidden and isinstance(value, plain)}


def _choices(value: Any, place: str) -> tuple[str, ...]:
    """The answers of one row, each with a leading blank: a list, a JSON list, or a struct {"text": [...]} as in ARC."""
    value = _parsed(value)
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(choice, str) for choice in value):
        raise Unavailable("choices must be a list of at least two texts", where=place, hint='for example ["a", "b"]')
    choices = [choice.strip() for choice in value]
    if "" in choices:
        hint = 'write out what the answer is, as in "none of these", or leave the row out'
        raise Unavailable(f"choice {choices.index('')} is empty", where=place, hint=hint)
    if len(set(choices)) < 2:
        hint = "nobody can tell equal choices apart: make them differ, or leave the row out"
        raise Unavailable(f"the only choice is {choices[0]!r}", where=place, hint=hint)
    return tuple(" " + choice for choice in choices)


def _parsed(value: Any) -> Any:
    """A cell that is JSON in a text, as in CSV files, as what it says; None where it is none."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _answers(value: Any, place: str) -> tuple[str, ...]:
    """All the right answers of one row, each with a leading blank: a text, a list of texts or a JSON list of texts."""
    listed = _parsed(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    texts = isinstance(listed, list) and all(isinstance(one, str) for one in listed)
    found = listed if texts or isinstance(value, list) else [value]
    if not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise Unavailable("an answer must be a text, or a list of texts", where=place)
    return tuple(" " + one.strip() for one in found)


def _golds(table: tables.Table, choices: list[tuple[str, ...]], options: TaskOptions) -> list[int]:
    """The index of every row's right choice."""
    labels = table.column(options.label_column, "label_column")
    return [_gold(label, choices[i], options, table, i) for i, label in enumerate(labels)]


def _distinct(choices: Sequence[tuple[str, ...]], golds: Sequence[int]) -> tuple[list[tuple[str, ...]], list[int]]:
    """Every row's choices once each, and the right one's place among them: ARC has rows in which one stands twice."""
    once = [tuple(dict.fromkeys(several)) for several in choices]
    rights = zip(choices, golds, strict=True)
    return once, [own.index(several[gold]) for own, (several, gold) in zip(once, rights, strict=True)]


def _gold(value: Any, choices: tuple[str, ...], options: TaskOptions, table: tables.Table, index: int) -> int:
    """The index of the right choice. Raises Unavailable that names the place and what is known."""
    label = label_text(value)
    column = options.choices_column
    known = _names(_parsed(table.rows[index][column]), len(choices)) if column else list(options.labels)
    if column and len(known) != len(choices):
        hint = "a name for every choice"
        raise Unavailable(f"{len(known)} labels for {len(choices)} choices", where=table.place(index), hint=hint)
    if label not in known:
        hint = f"known: {', '.join(known)}"
        raise Unavailable(f"label {label!r} is not one of the choices", where=table.place(index), hint=hint)
    return known.index(label)


def _names(value: Any, count: int) -> list[str]:
    """What a multiple-choice label may be: the names that come with the choices, else 0, 1, 2, ..."""
    if isinstance(value, dict) and isinstance(value.get("label"), list):
        return [label_text(name) for name in value["label"]]
    return [str(number) for number in range(count)]


def label_text(value: Any) -> str:
    """A label as profiles write it: true and false in lower case, whole numbers without a point, no blanks around."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _clean(splits: dict[str, list[Row]], options: TaskOptions) -> CleanCounts | None:
    """Cleans in place, over all splits at once: of duplicates the test row stays, then the dev row, and a confirm row never."""
    if options.clean is None:
        return None
    backwards = [(split, row) for split in reversed(EVERY) for row in splits.get(split, [])]
    keys = [_asked(row, options) for _, row in backwards]
    kept, counts = select([row.text for _, row in backwards], options.clean, keys)
    for split in splits:
        splits[split] = [_cleaned(backwards[i][1], options) for i in kept if backwards[i][0] == split]
        if not splits[split]:
            raise Unavailable(f"cleaning left no {split} rows: {counts}", hint="loosen the task's clean section")
    return counts


def _asked(row: Row, options: TaskOptions) -> str:
    """All of a row's question: what the template shows, and the row's own choices."""
    own = row.choices if options.choices_column else ()
    return "\n".join([*(row.fields[name] for name in named(options.template)), *own])


def _cleaned(row: Row, options: TaskOptions) -> Row:
    assert options.clean is not None
    fields = {name: normalize(value, options.clean) for name, value in row.fields.items()}
    return replace(row, text=fields["text"], fields=fields)


def _fingerprint(splits: Mapping[str, list[Row]], template: str) -> str:
    rows = (
        json.dumps([s, r.fields, r.choices, r.gold, *r.more], sort_keys=True) for s in EVERY for r in splits.get(s, [])
    )
    return fingerprint([template, *rows])
