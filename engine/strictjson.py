"""JSON that every parser reads: numbers that are not finite, which JSON does not have, are null."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """The value as JSON, characters as they are."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(defined(value), indent=indent, ensure_ascii=False, allow_nan=False)


def defined(value: Any) -> Any:
    """The value with None for every number in it that is not finite."""
    if isinstance(value, dict):
        return {key: defined(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [defined(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
