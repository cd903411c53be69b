"""A candidate prompt: instruction, demonstrations, the template that one row fills, and virtual tokens ahead of them all."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from engine.data.rows import Row

if TYPE_CHECKING:  # the command line reads prompts without torch
    from engine.prompts.soft import Soft

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Prompt:
    """`name` in tables ("plain" is the baseline), `origin` says where it came from. `chat` is "off" for a plain text; for the
    turns of a chat it says whose message the instruction is, "system" or the first "user"."""

    name: str
    template: str
    instruction: str = ""
    demonstrations: tuple[Row, ...] = ()
    origin: str = ""
    soft: Soft | None = None
    chat: str = "off"

    def fill(self, row: Row) -> str:
        """The whole prompt for one row; a choice follows directly."""
        return self.head() + fill(self.template, row)

    def head(self) -> str:
        """What stands before every row."""
        shown = [fill(self.template, row) + row.choices[row.gold] for row in self.demonstrations]
        parts = [self.instruction, *shown] if self.instruction else shown
        return "".join(part + SEPARATOR for part in parts)

    def text(self) -> str:
        """The prompt's text with its fields unfilled."""
        return self.head() + self.template

    def messages(self, row: Row | None = None) -> list[dict[str, str]]:
        """The turns of a chat, as OpenAI's API takes them: a demonstration as a question and its answer, the row as the last
        question; without a row the fields stay in braces."""
        asked = [fill(self.template, shown) for shown in self.demonstrations]
        asked.append(self.template if row is None else fill(self.template, row))
        if self.instruction and self.chat == "user":
            asked[0] = self.instruction + SEPARATOR + asked[0]
        out = [{"role": "system", "content": self.instruction}] if self.instruction and self.chat != "user" else []
        for question, shown in zip(asked, self.demonstrations, strict=False):
            out.append({"role": "user", "content": question})
            out.append({"role": "assistant", "content": shown.choices[shown.gold].strip()})
        return [*out, {"role": "user", "content": asked[-1]}]

    def readable(self, asked: str = "") -> str:
        """The text with its fields unfilled, or the turns of the chat one below the other; `asked` in the template's place."""
        if self.chat == "off":
            return self.head() + (asked or self.template)
        *turns, last = self.messages()
        ending = last["content"].removesuffix(self.template) + (asked or self.template)
        return SEPARATOR.join(f"<{turn['role']}>\n{turn['content']}" for turn in [*turns, {**last, "content": ending}])

    def shown(self) -> str:
        """The whole prompt for people: what no text can show is named, and the template's plain braces are single ones."""
        parts = string.Formatter().parse(self.template)
        plain = "".join(literal + ("" if name is None else f"{{{name}}}") for literal, name, _, _ in parts)
        return (f"<{self.soft.tokens} {self.soft.form} tokens>" if self.soft else "") + self.readable(plain)

    def same(self, other: Prompt) -> bool:
        """Whether a model sees no difference."""
        return self.readable() == other.readable() and self.soft == other.soft

    def as_json(self) -> dict[str, Any]:
        """The text; virtual tokens are kept in files of their own."""
        record = asdict(replace(self, soft=None))
        del record["soft"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Prompt:
        """The prompt that `as_json` gave; other keys are left aside."""
        names = {field.name for field in fields(cls)} - {"soft"}
        known = {name: record[name] for name in names if name in record}
        shown = [_row(row) for row in known.get("demonstrations", ())]
        return cls(**{**known, "demonstrations": tuple(shown)})


def _row(record: Mapping[str, Any]) -> Row:
    more = tuple(map(tuple, record.get("more", ())))
    return Row(**{**record, "choices": tuple(record["choices"]), "more": more})


def fill(template: str, row: Row) -> str:
    """`template` with the row's fields, whatever characters their names have; braces in the row's text stay as they are."""
    parts = string.Formatter().parse(template)
    return "".join(literal + ("" if name is None else row.fields[name]) for literal, name, _, _ in parts)
