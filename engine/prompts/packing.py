"""Scores several prompts together, into the scorer's cache: one forward for what each of them begins with, padded on the left,
and batches of rows of all of them, each of which goes on from its own prompt's beginning.

A graphics card is mostly idle with one prompt's few rows; a CPU is not, and padding only costs it time. Virtual tokens, and
models whose rows may not be padded or not go on from a shared beginning, are left to the scorer, who asks one prompt after the
other and finds in the cache what is here.

Shapes: N prompts, P positions of the longest beginning, R rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch

from engine.data.rows import Row
from engine.prompts.bounds import Bounds, in_halves
from engine.prompts.forward import (
    SHORTEST_PREFIX,
    Sequence_,
    is_stateful,
    may_be_padded,
    may_be_shared,
    onward,
    target_values,
)
from engine.prompts.scorer import Scorer, shared_prefix
from engine.prompts.template import Prompt
from engine.subject import Subject


@dataclass(frozen=True)
class Part:
    """One prompt: what all its sequences begin with, and these with their keys."""

    prefix: tuple[int, ...]
    items: list[tuple[Sequence_, str]]

    @classmethod
    def of(cls, sequences: list[Sequence_], keys: list[str]) -> Part:
        prefix = shared_prefix([s.sharable for s in sequences])
        return cls(prefix if len(prefix) >= SHORTEST_PREFIX else (), list(zip(sequences, keys, strict=True)))

    @property
    def width(self) -> int:
        """Tokens of the longest row behind the beginning."""
        return max(len(s.tokens) for s, _ in self.items) - len(self.prefix)


Member = tuple[Sequence_, str, int]
"""a sequence, its key, and which of the parts it is of"""


def pays(subject: Subject) -> bool:
    """Whether the model's device has room for more than one prompt's rows at a time."""
    return subject.device.type == "cuda"


def score(scorer: Scorer, several: Sequence[tuple[Prompt, Sequence[Row]]], width: int) -> None:
    """Puts the log-likelihoods of every prompt's rows, of `width` choices at most, into the scorer's cache."""
    if scorer.cache is None or is_stateful(scorer.subject):
        return
    parts = []
    for prompt, rows in several:
        if prompt.soft is None and rows:
            sequences = scorer.fitting(prompt, rows, width)
            parts.append(Part.of(sequences, [scorer.key(s, None) for s in sequences]))
    known = scorer.cache.get([key for part in parts for _, key in part.items])
    most = Bounds.of(scorer.subject)
    for group in together(parts, most.tokens):
        held, more = max(len(part.prefix) for part in group), max(part.width for part in group)
        if len(group) > 1 and may_be_padded(scorer.subject, held + more):  # padding stands between the two
            _score(scorer, group, known.keys(), most)


def together(parts: Sequence[Part], most: int) -> Iterator[list[Part]]:
    """Parts with beginnings of similar length, padded at most so many tokens."""
    group: list[Part] = []
    for part in sorted(parts, key=lambda part: len(part.prefix)):
        if group and len(part.prefix) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _score(scorer: Scorer, parts: list[Part], known: AbstractSet[str], most: Bounds) -> None:
    """Batches are cut from all rows and the known ones left out of them, as the scorer does."""
    missing = {key for part in parts for _, key in part.items} - known
    if not missing:
        return
    with torch.inference_mode(), scorer.computing():
        begun = beginnings(scorer.subject, [part.prefix for part in parts])
    if any(part.prefix for part in parts) and not may_be_shared(begun):
        return
    lengths = [len(part.prefix) for part in parts]
    total = len(missing)
    for whole in batches(parts, most):
        batch = list({member[1]: member for member in whole if member[1] in missing}.values())
        if not batch:
            continue
        with scorer.computing():
            work = partial(_batch, scorer.subject, begun, lengths)
            found = dict(zip([key for _, key, _ in batch], in_halves(work, batch), strict=True))
        missing -= found.keys()
        assert scorer.cache is not None
        scorer.cache.put(found)
        scorer.computed += len(found)
        scorer.tell(total - len(missing), total)


def beginnings(subject: Subject, prefixes: Sequence[tuple[int, ...]]) -> Any:
    """What the model keeps of all of them [N, P], each at the end of its row; None where there are none."""
    if not any(prefixes):
        return None
    rows = [prefix or (0,) for prefix in prefixes]  # of an empty one nothing is seen later on
    return getattr(onward(subject, rows, [0] * len(rows), 0, 1, use_cache=True), "past_key_values", None)


def batches(parts: Sequence[Part], most: Bounds) -> list[list[Member]]:
    """Rows of similar length behind their beginnings together, within both bounds."""
    held = max(len(part.prefix) for part in parts)
    members = [(sequence, key, n) for n, part in enumerate(parts) for sequence, key in part.items]
    widths = {id(member): len(member[0].tokens) - len(parts[member[2]].prefix) for member in members}
    out: list[list[Member]] = [[]]
    for member in sorted(members, key=lambda member: widths[id(member)]):
        width, rows = widths[id(member)], len(out[-1]) + 1
        if out[-1] and (width * rows > most.tokens or (held + width) * rows > most.cached):
            out.append([])
        out[-1].append(member)
    return out


@torch.inference_mode()
def _batch(subject: Subject, begun: Any, lengths: Sequence[int], batch: list[Member]) -> list[list[float]]:
    """Log-likelihoods of each sequence's targets."""
    sequences = [sequence for sequence, _, _ in batch]
    before = [lengths[n] for _, _, n in batch]
    rows = [sequence.tokens[count:] for sequence, count in zip(sequences, before, strict=True)]
    how: dict[str, Any] = {"use_cache": False}
    if begun is not None:
        indices = torch.tensor([n for _, _, n in batch], device=subject.device)
        how = {"use_cache": True, "past_key_values": selected(begun, indices)}
    last, held = max(s.positions for s in sequences), 0 if begun is None else max(lengths)
    logits = onward(subject, rows, before, held, last, **how).logits
    values = iter(target_values(sequences, logits.float().log_softmax(-1)).tolist())
    return [list(islice(values, len(sequence.targets))) for sequence in sequences]


def selected(past: Any, indices: torch.Tensor) -> Any:
    """The cache of these rows; the given one stays as it is."""
    cache = copy.copy(past)
    cache.layers = [copy.copy(layer) for layer in past.layers]
    cache.batch_select_indices(indices)
    return cache
