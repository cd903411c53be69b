"""A chat written as one text, each turn below a line with its role, and read back: what people edit (`Prompt.readable`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.data.rows import Row
from engine.errors import UsageError
from engine.prompts.template import SEPARATOR, Prompt, fill

ROLES = ("system", "user", "assistant")
HEADING = re.compile(rf"^<({'|'.join(ROLES)})>(?:\n|\Z)", re.MULTILINE)
ANSWERED = "user"
"""whose turn comes last: the model answers it"""


@dataclass(frozen=True)
class Turns(Prompt):
    """A chat of any turns, (role, template) each; `template` has the fields of all of them."""

    turns: tuple[tuple[str, str], ...] = ()

    def messages(self, row: Row | None = None) -> list[dict[str, str]]:
        return [{"role": role, "content": told if row is None else fill(told, row)} for role, told in self.turns]


def read(name: str, text: str, template: Callable[[str], str], where: str) -> Turns:
    """The chat that a text shows; `template` makes a template of what is said. Raises UsageError for a text without turns, and
    for turns that ask nothing.
    """
    before, *parts = HEADING.split(text)
    roles, said = parts[::2], parts[1::2]
    if before.strip() or not roles:
        hint = f"begin each turn with a line of its own: {', '.join(f'<{role}>' for role in ROLES)}"
        raise UsageError("the text begins without a turn", where=where, hint=hint)
    if roles[-1] != ANSWERED:
        raise UsageError(f"the last turn is <{roles[-1]}>", where=where, hint=f"the model answers a <{ANSWERED}> turn")
    inner = [one.removesuffix(SEPARATOR) if one.endswith(SEPARATOR) else one.removesuffix("\n") for one in said[:-1]]
    turns = tuple((role, template(one)) for role, one in zip(roles, [*inner, said[-1]], strict=True))
    whole = SEPARATOR.join(told for _, told in turns)
    return Turns(name, whole, chat="system" if roles[0] == "system" else "user", turns=turns)
