"""Whether windows of so many tokens have room in a model. No training here."""

from __future__ import annotations

from engine.errors import UsageError
from engine.prompts.forward import positions
from engine.subject import Subject


def check(subject: Subject, length: int, key: str) -> None:
    """Raises UsageError when a language model has fewer positions than the key's value."""
    check_limit(positions(subject) if subject.is_language_model else None, length, key)


def check_limit(limit: int | None, length: int, key: str) -> None:
    """The same for so many positions, None where nothing limits them."""
    if limit is not None and length > limit:
        raise UsageError(f"{length} tokens, but the model has {limit} positions", where=key, hint=f"{key} = {limit}")
