"""Attention heads: a key-value head together with all query heads that use it."""

from __future__ import annotations

from engine.pruning.narrowing import narrow, plan
from engine.pruning.structured import Job, Smaller

SCORE = "obs"


def check(job: Job) -> None:
    """Raises UsageError when the model has no independent heads, or no configuration with fewer."""
    plan(job, wide=True)


def shrink(job: Job) -> Smaller:
    return narrow(job, "head groups", wide=True)
