"""A candidate prompt as text: instruction, demonstrations, and the template that one row fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.data.rows import Row

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Prompt:
    """`name` in tables ("plain" is the baseline), `origin` says where it came from."""

    name: str
    template: str
    instruction: str = ""
    demonstrations: tuple[Row, ...] = ()
    origin: str = ""

    def fill(self, row: Row) -> str:
        """The whole prompt for one row; a choice follows directly."""
        return self.head() + fill(self.template, row)

    def head(self) -> str:
        """What stands before every row."""
        shown = [fill(self.template, row) + row.choices[row.gold] for row in self.demonstrations]
        parts = [self.instruction, *shown] if self.instruction else shown
        return "".join(part + SEPARATOR for part in parts)

    def text(self) -> str:
        """The prompt with its fields unfilled, for people."""
        return self.head() + self.template

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Prompt:
        """The prompt that `as_json` gave; other keys are left aside."""
        known = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        shown = [Row(**{**row, "choices": tuple(row["choices"])}) for row in known.get("demonstrations", ())]
        return cls(**{**known, "demonstrations": tuple(shown)})


def fill(template: str, row: Row) -> str:
    """`template` with the row's fields; braces in the row's text stay as they are."""
    return template.format_map(row.fields)
