"""Attention heads: a key-value head together with all query heads that use it."""

from __future__ import annotations

from engine.pruning.configs import Changes
from engine.pruning.narrowing import narrow, plan
from engine.pruning.structured import Job, Smaller

SCORE = "obs"


def check(job: Job) -> Changes:
    """The keys that will change. Raises UsageError when the model has no independent heads, or no configuration with fewer."""
    return plan(job, wide=True).config


def shrink(job: Job) -> Smaller:
    return narrow(job, "head groups", wide=True)
