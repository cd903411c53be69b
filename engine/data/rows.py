"""One row of a task, and what a template may name of it. No torch here."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import Unavailable, UsageError, did_you_mean


@dataclass(frozen=True)
class Row:
    """One question: `text`, the `fields` a template may name, the `choices` as they follow the prompt, `gold` the right
    one's index. `more` are other words for each choice, that count for it; none where it is empty. Of a free answer the
    choices are all that is right, and the first one, `gold`, is what a demonstration shows."""

    text: str
    fields: dict[str, str]
    choices: tuple[str, ...]
    gold: int
    more: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """All the words of every choice, the one that is shown first."""
        more = self.more or ((),) * len(self.choices)
        return tuple((choice, *others) for choice, others in zip(self.choices, more, strict=True))

    @property
    def digest(self) -> str:
        """Equal for rows of the same fields, choices and right answer."""
        about = json.dumps([sorted(self.fields.items()), self.choices, self.gold, *self.more])
        return hashlib.blake2b(about.encode(), digest_size=16).hexdigest()


def named(template: str) -> list[str]:
    """The fields that a template shows. Raises ValueError for unbalanced braces."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def check_template(template: str, fields: Iterable[str] | None, where: str) -> None:
    """Raises UsageError for a template without any field, with one that is not among `fields` (None: they are not known yet) or
    says how it is to be shown, or with unbalanced braces.
    """
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UsageError(f"template: {error}", where=where, hint="write {{ and }} for plain braces") from error
    for _, name, form, conversion in parts:
        if form or conversion:
            written = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
            message = f"{{{written}}} in the template: a field is shown as it is, without a format or a conversion"
            raise UsageError(message, where=where, hint=f"write {{{name}}}, or {{{{{written}}}}} for plain braces")
    names, known = named(template), list(fields or ())
    if not names:
        hint = f"name what to show of a row, as {{{known[0]}}}" if known else None
        raise UsageError("the template has no field: every row would read the same", where=where, hint=hint)
    for name in names:
        if fields is not None and name not in known:
            raise UsageError(f"unknown field {{{name}}} in the template", where=where, hint=did_you_mean(name, known))


def check_fields(template: str, rows: Sequence[Mapping[str, str]], place: Callable[[int], str], where: str) -> None:
    """As `check_template` with the fields of all rows; Unavailable, with the row's place, for one that lacks a field."""
    check_template(template, dict.fromkeys(name for row in rows for name in row), where)
    for name in named(template):
        for index, row in enumerate(rows):
            if name not in row:
                hint = "leave such rows out, or take the field out of the template"
                raise Unavailable(f"no text or number in column {name!r}", where=place(index), hint=hint)
