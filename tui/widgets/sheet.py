"""Textual's stylesheet, parsed once: Textual itself parses all of it anew whenever a screen is shown for the first time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet

MOST = 1024


class Sheet(Stylesheet):
    """What was parsed with the same variables is kept for the life of the process; nobody changes rules that are parsed."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parse_cache = _parsed(_key(self._variables))

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables != self._variables:
            self._parse_cache = LRUCache(1)  # Textual empties the old one
            super().set_variables(variables)
            self._parse_cache = _parsed(_key(variables))

    def reparse(self) -> None:
        """Textual does this in a new stylesheet, so that wrong rules leave the old ones; `parse` does so too."""
        self.parse()


def _key(variables: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(variables.items()))


@lru_cache(maxsize=16)
def _parsed(variables: tuple[tuple[str, str], ...]) -> LRUCache[tuple[Any, ...], Any]:
    """The rules by their text, for these variables."""
    return LRUCache(MOST)
