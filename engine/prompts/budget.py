"""What may be spent while prompts are compared, as a profile says: 2000 (examples), "200k tokens", "10 minutes"; no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

Unit = Literal["examples", "tokens", "minutes"]
UNITS: dict[str, Unit] = {"example": "examples", "token": "tokens", "minute": "minutes"}
TIMES = {"": 1, "k": 1_000, "m": 1_000_000}
BLOCK = 8
"""rows that every prompt of a race meets at least, where there are as many; and those between two looks at the clock"""
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)\s*(example|token|minute)s?", re.IGNORECASE)
EXPECTED = 'must be a number of examples >= 1, or a text such as "200k tokens" or "10 minutes"'


@dataclass(frozen=True)
class Budget:
    """So many of a unit. Examples are rows that a prompt meets; tokens those of the prompt, for every row that it meets;
    minutes pass from the first row on, whatever they are spent on.
    """

    amount: float
    unit: Unit = "examples"

    @classmethod
    def of(cls, written: int | str) -> Budget:
        """Raises ValueError for what is none, or is not above zero."""
        if isinstance(written, int) and not isinstance(written, bool) and written >= 1:
            return cls(written)
        found = _WRITTEN.fullmatch(written.strip()) if isinstance(written, str) else None
        if found is None:
            raise ValueError(EXPECTED)
        unit = UNITS[found[3].lower()]
        amount = float(found[1]) * TIMES[found[2].lower()]
        if amount <= 0 or (unit != "minutes" and not amount.is_integer()):
            raise ValueError(EXPECTED)
        return cls(amount if unit == "minutes" else int(amount), unit)

    def price(self, tokens: int) -> int:
        """What a row costs with a prompt of so many tokens, as far as that is known beforehand: of minutes nothing is."""
        return {"examples": 1, "tokens": tokens, "minutes": 0}[self.unit]

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}" if self.unit == "minutes" else f"{self.amount:.0f} {self.unit}"


def _checked(written: Any) -> Any:
    Budget.of(written)
    return written


Written = Annotated[Annotated[int, Field(ge=1)] | str, BeforeValidator(_checked)]
"""a budget as a profile writes it, and as it is written back"""
