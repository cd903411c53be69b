"""Intermediate channels of the MLP: one row of the matrices that fill it, one column of the matrix that reads it."""

from __future__ import annotations

from engine.pruning.configs import Changes
from engine.pruning.narrowing import narrow, plan
from engine.pruning.structured import Job, Smaller

SCORE = "obs"


def check(job: Job) -> Changes:
    """The keys that will change. Raises UsageError when the model has no such channels, or no configuration with fewer."""
    return plan(job, wide=False).config


def shrink(job: Job) -> Smaller:
    return narrow(job, "channels", wide=False)
