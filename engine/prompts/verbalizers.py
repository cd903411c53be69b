"""Whether a tokenizer tells a task's label words apart: every word is a token at least, and no two labels share one."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from typing import Any

from engine.data.options import verbalized
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import rendering

Tokens = tuple[int, ...]
CLOSING = ".:;,?!)}"
"""behind which a text goes on with a blank; a closing brace is that of a field"""
SPACED = ("LATIN", "GREEK", "CYRILLIC")


def check(task: Task, tokenizer: Any) -> Iterator[str]:
    """Raises UsageError for a word without tokens and for two words that are the same tokens.

    Yields a warning for words that run into the template, and for a label whose words all go on from another label's: what
    begins a word is at least as likely as the whole, so that only calibration lets the longer ones win.
    """
    where, found = f"task {task.name}", tokenized(task, tokenizer)
    yield from joined(task, where)
    for label, words in found.items():
        for word, tokens in words.items():
            if not tokens:
                message = f"the word {word!r} of label {label!r} is no token of the model"
                raise UsageError(message, where=where, hint="name another word")
    known: dict[Tokens, tuple[str, str]] = {}
    for label, words in found.items():
        for word, tokens in words.items():
            other, same = known.setdefault(tokens, (label, word))
            if same != word:
                message = f"{same!r} of label {other!r} and {word!r} of label {label!r} are the same tokens"
                raise UsageError(message, where=where, hint="name words that the model's tokenizer tells apart")
    for (one, words), (other, others) in itertools.permutations(found.items(), 2):
        if all(any(tokens[: len(short)] == short for short in others.values()) for tokens in words.values()):
            yield f"{where}: all words of label {one!r} begin with one of {other!r}, which is always at least as likely"


def joined(task: Task, where: str) -> Iterator[str]:
    """A warning of words that no blank, or more than one, sets apart from the template, in scripts that have blanks."""
    end = task.template[-1:]
    for word in itertools.chain.from_iterable(verbalized(task.labels).values() if task.chat == "off" else ()):
        if (end.isalnum() or end in CLOSING) and any(name in unicodedata.name(word[0], "") for name in SPACED):
            yield f"{where}: the word {word!r} follows {task.template[-12:]!r} without a blank; meant may be {f' {word}'!r}"
        elif end == word[0] == " ":
            yield f"{where}: the template ends in a blank and the word {word!r} begins with one: leave one of them out"


def tokenized(task: Task, tokenizer: Any) -> dict[str, dict[str, Tokens]]:
    """Every label's words with their tokens, without special ones, as they follow the task's prompts."""
    before = "" if task.chat == "off" else rendering.rendered([{"role": "user", "content": ""}], tokenizer)[-1:]
    followed = {
        label: {word: rendering.following(before, word, task.chat).removeprefix(before) for word in words}
        for label, words in verbalized(task.labels).items()
    }
    return {
        label: {word: tuple(tokenizer(text, add_special_tokens=False).input_ids) for word, text in words.items()}
        for label, words in followed.items()
    }
