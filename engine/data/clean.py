"""Cleaning of documents: Unicode form, blanks, length limits, exact and near duplicates; the first of equals stays.

Near duplicates are found exactly: a prefix filter (Chaudhuri et al. 2006, Bayardo et al. 2007) proposes pairs, the
Jaccard similarity of their 5-word shingles decides. No randomness, nothing missed.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.data.options import CleanOptions

SHINGLE = 5
WORD = re.compile(r"\w+")
BLANKS = re.compile(r"\s+")

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
ROUNDING = 1e-9  # 0.7 * 10 is a little more than 7

Shingles = NDArray[np.uint64]


@dataclass(frozen=True)
class CleanCounts:
    """How many documents were kept, dropped as exact or near duplicates, too short, too long; `changed` of the kept."""

    kept: int
    exact: int
    near: int
    short: int
    long: int
    changed: int

    def __str__(self) -> str:
        dropped = f"{self.exact} exact and {self.near} near duplicates, {self.short} too short, {self.long} too long"
        return f"{self.kept} documents kept ({self.changed} changed); dropped {dropped}"


def clean(documents: Sequence[str], options: CleanOptions) -> tuple[list[str], CleanCounts]:
    """The documents that stay, normalized, in order; and the counts."""
    kept, counts = select(documents, options)
    return list(kept.values()), counts


def select(
    documents: Sequence[str], options: CleanOptions, keys: Sequence[str] | None = None
) -> tuple[dict[int, str], CleanCounts]:
    """The same with the index of each document that stays. `keys` say what is a duplicate of what, where the documents alone
    do not.
    """
    texts = [normalize(document, options) for document in documents]
    told = texts if keys is None else [normalize(key, options) for key in keys]
    short = {i for i, text in enumerate(texts) if len(text) < options.min_chars}
    long = {i for i, text in enumerate(texts) if options.max_chars is not None and len(text) > options.max_chars}
    left = [i for i in range(len(texts)) if i not in short and i not in long]
    unique = sorted({told[i]: i for i in reversed(left)}.values()) if options.duplicates else left
    near = set[int]()
    if options.near_duplicates is not None:
        near = {unique[i] for i in near_duplicates([told[i] for i in unique], options.near_duplicates)}
    kept = {i: texts[i] for i in unique if i not in near}
    changed = sum(text != documents[i] for i, text in kept.items())
    counts = CleanCounts(len(kept), len(left) - len(unique), len(near), len(short), len(long), changed)
    return kept, counts


def normalize(text: str, options: CleanOptions) -> str:
    """Unicode form; then each run of blanks becomes a space, a newline or an empty line, and the ends are stripped."""
    if options.unicode != "none":
        text = unicodedata.normalize(options.unicode, text)
    if not options.whitespace:
        return text
    return BLANKS.sub(lambda run: "\n" * min(2, run[0].count("\n")) or " ", text).strip()


def near_duplicates(documents: Sequence[str], threshold: float) -> list[int]:
    """Indices of the documents whose shingles have a Jaccard similarity >= threshold with an earlier, kept one."""
    ranked, unshared = rank([shingles(document) for document in documents])
    index: dict[int, list[int]] = defaultdict(list)
    dropped: list[int] = []
    for number, ranks in enumerate(ranked):
        prefix = ranks[: len(ranks) - math.ceil(threshold * len(ranks) - ROUNDING) + 1]
        shared = prefix[prefix >= unshared].tolist()
        candidates = {other for shingle in shared for other in index[shingle]}
        if any(jaccard(ranks, ranked[other]) >= threshold for other in candidates):
            dropped.append(number)
            continue
        for shingle in shared:
            index[shingle].append(number)
    return dropped


def shingles(document: str) -> Shingles:
    """Distinct hashes of every 5 words in a row, case and punctuation aside; a shorter document is one shingle."""
    hashes = np.array([_word_hash(word) for word in WORD.findall(document.casefold())], dtype=np.uint64)
    if len(hashes) == 0:
        return hashes
    width = min(SHINGLE, len(hashes))
    combined = np.zeros(len(hashes) - width + 1, dtype=np.uint64)
    for offset in range(width):
        combined = combined * MULTIPLIER + hashes[offset : offset + len(combined)]
    return np.unique(combined)


def rank(sets: Sequence[Shingles]) -> tuple[list[Shingles], int]:
    """Each set as sorted ranks, rarest shingle first over all sets; ranks below the second value occur only once."""
    if not sets:
        return [], 0
    _, inverse, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    ranks = np.empty(len(counts), dtype=np.uint64)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.uint64)
    ends = np.cumsum([len(one) for one in sets])[:-1]
    return [np.sort(part) for part in np.split(ranks[inverse], ends)], int((counts == 1).sum())


def jaccard(a: Shingles, b: Shingles) -> float:
    """|a and b| / |a or b| of two arrays of distinct shingles; 0 when both are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(1, len(a) + len(b) - common)


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    """64 bits of a word, the same in every process."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
