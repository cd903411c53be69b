"""Whether a tokenizer tells a task's label words apart: every word is a token at least, and no two labels share one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from engine.data.options import verbalized
from engine.data.tasks import Task
from engine.errors import UsageError

Tokens = tuple[int, ...]


def check(task: Task, tokenizer: Any) -> Iterator[str]:
    """Raises UsageError for a word without tokens and for words of two labels that are the same tokens.

    Yields a warning for a label whose words all go on from another label's: what begins a word is at least as likely as the
    whole, so that only calibration lets the longer ones win.
    """
    where, found = f"task {task.name}", tokenized(task, tokenizer)
    for label, words in found.items():
        for word, tokens in words.items():
            if not tokens:
                message = f"the word {word!r} of label {label!r} is no token of the model"
                raise UsageError(message, where=where, hint="name another word")
    for (one, words), (other, others) in itertools.permutations(found.items(), 2):
        for word, same in itertools.product(words, others):
            if words[word] == others[same]:
                message = f"{word!r} of label {one!r} and {same!r} of label {other!r} are the same tokens"
                raise UsageError(message, where=where, hint="name words that the model's tokenizer tells apart")
        if all(any(tokens[: len(short)] == short for short in others.values()) for tokens in words.values()):
            yield f"{where}: all words of label {one!r} begin with one of {other!r}, which is always at least as likely"


def tokenized(task: Task, tokenizer: Any) -> dict[str, dict[str, Tokens]]:
    """Every label's words with their tokens, without special ones."""
    return {
        label: {word: tuple(tokenizer(word, add_special_tokens=False).input_ids) for word in words}
        for label, words in verbalized(task.labels).items()
    }
