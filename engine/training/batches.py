"""Which items a step trains on: an order that depends on the seed and the step's number alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch


def batch_at(train: Sequence[int], size: int, seed: int, step: int) -> list[int]:
    """The items of a step: the epochs' random orders one behind the other, cut in batches; no batch has more than there are."""
    size = min(size, len(train))
    places = [divmod(place, len(train)) for place in range(step * size, (step + 1) * size)]
    return [train[order(len(train), seed, epoch)[place]] for epoch, place in places]


@functools.lru_cache(maxsize=2)
def order(count: int, seed: int, epoch: int) -> list[int]:
    """The epoch's random order of so many items."""
    generator = torch.Generator().manual_seed(seed * 10_007 + epoch)
    found: list[int] = torch.randperm(count, generator=generator).tolist()
    return found


def cut(batch: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The batch in parts of so many items."""
    for start in range(0, len(batch), size):
        yield batch[start : start + size]
