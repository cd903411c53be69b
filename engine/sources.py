"""Where texts and models come from, by the form of the name alone: one that nothing here reads is refused with the near ones.

Whether a file or a data set is there is another question, and so is a model's name on the hub: any of its form may be one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path

from engine.errors import UsageError, suggested
from engine.registry import BUILTIN, check_builtin
from engine.summary import REMOTE

TEXTS = ("demo", "stdlib", "file:PATH", "hub:ORG/NAME")
"""every source of text"""
OWN = ("self", "builtin")
"""calibration data that come from the model itself"""
MODELS = ("demo", "./FOLDER", "./FILE.gguf", "ORG/NAME", "python:PACKAGE.MODULE:FACTORY")
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[\w.-]+")
"""a model of the hub; the oldest have no organization"""


def check_text(source: str, more: Collection[str] = ()) -> None:
    """Raises UsageError for what is no text, and none of `more` either."""
    if not _fits(source, known := (*TEXTS, *more)):
        raise UsageError(f"unknown source of text {source!r}", hint=near(source, known))


def check_model(source: str, more: Collection[str] = ()) -> None:
    """Raises UsageError for what can be no model: a path and a name of the hub may be one, there or not."""
    if not source or source in more or source.endswith(".gguf") or Path(source).is_dir() or source.startswith("/"):
        return
    scheme, colon, rest = source.partition(":")
    if colon and scheme == "builtin":
        check_builtin(rest)
    elif not (colon and scheme == "python") and not HUB_NAME.fullmatch(source.removeprefix(REMOTE)):
        known = (*MODELS, *(f"builtin:{name}" for name in BUILTIN), *more)
        raise UsageError(f"unknown source of a model {source!r}", hint=near(source, known))


def near(source: str, forms: Iterable[str]) -> str:
    """A hint that names the forms that begin nearly as the source does, and then all of them."""
    heads = {form.partition(":")[0]: form for form in sorted(forms)}
    found = get_close_matches(source.partition(":")[0], heads, n=3, cutoff=0.5)
    return suggested([heads[head] for head in found], heads.values())


def _fits(source: str, forms: Iterable[str]) -> bool:
    """Whether the source is one of the words, or begins as one of the others does, up to the colon."""
    heads = [form.partition(":") for form in forms]
    return any(source.startswith(head + colon) if colon else source == head for head, colon, _ in heads)
