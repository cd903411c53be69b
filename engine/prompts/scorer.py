"""Scores choices by log-likelihood: ℓ(c|p,x) = Σ log P(c_t | p, x, c_<t). The one scorer of every optimizer and of evaluation.
The words of a choice that has several are scored each by itself and folded into one.

What all rows of a prompt share at the front, virtual tokens first, is encoded once and its key/value cache reused. Rows
are batched by length, padded on the left. Choices of one token need one forward for all of them. Scores are kept on disk
by (weights, virtual tokens, tokens, choice), so that a repeated or resumed run does not compute them again.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from engine.data.rows import Row
from engine.prompts import context, rendering
from engine.prompts.bounds import Bounds, in_halves
from engine.prompts.cache import ScoreCache
from engine.prompts.forward import (
    Beginning,
    Sequence_,
    begin,
    first_token,
    folded,
    may_be_padded,
    positions,
    predictions,
    target_values,
)
from engine.prompts.soft import Soft
from engine.prompts.template import Prompt
from engine.subject import DTYPES, Subject
from engine.weights import weights_hash

if TYPE_CHECKING:
    from engine.workspace import Workspace

Item = tuple[Sequence_, str]
"""a sequence and its key"""
Work = Callable[..., list[list[float]]]
"""(sequences of a batch, begun=what they begin with) -> numbers for each of them"""


@dataclass
class Scorer:
    """A model that scores; `tell(done, total)` is called after every batch and may stop the work by raising.

    Products are computed in `compute` where that is shorter than the weights' own number format.
    `cut` are the rows, by digest, that did not fit in the model's context, for every prompt that there were any with; `hashed`
    are the weights, where they have been hashed before.
    """

    subject: Subject
    cache: ScoreCache | None = None
    tell: Callable[[int, int], None] = lambda done, total: None
    compute: torch.dtype | None = None
    weights: str = field(init=False)
    computed: int = 0
    cut: dict[str, set[str]] = field(default_factory=dict)
    hashed: str = ""

    def __post_init__(self) -> None:
        if self.compute in (torch.float32, self.subject.dtype):
            self.compute = None
        if self.cache and not self.hashed:
            self.hashed = weights_hash(self.subject.module)
        self.weights = conditions(self.subject, self.hashed, self.compute) if self.cache else ""

    @classmethod
    def quick(cls, workspace: Workspace, subject: Subject, kept: bool = True) -> Scorer:
        """For development and training rows: products in the number format of the calibration pass."""
        check = lambda done, total: workspace.check_stop()  # noqa: E731
        cache = ScoreCache() if kept else None
        return cls(subject, cache, check, DTYPES[workspace.profile.calibration.compute])

    @property
    def exact(self) -> Scorer:
        """The same model's scorer in its weights' own number format."""
        return self if self.compute is None else replace(self, compute=None, computed=0)

    def intact(self) -> bool:
        """Whether the weights are what they were when the scorer was made; one without a cache does not know."""
        return not self.cache or self.hashed == weights_hash(self.subject.module)

    def computing(self) -> AbstractContextManager[None]:
        """The number format of the products."""
        low = self.compute is not None
        return torch.autocast(self.subject.device.type, dtype=self.compute, enabled=low)

    def score(self, prompt: Prompt, rows: Sequence[Row], width: int | None = None) -> torch.Tensor:
        """Log-likelihoods [rows, width] in float64; `width` is the most choices of any row, -inf pads shorter rows."""
        width = width or max(len(row.choices) for row in rows)
        sequences = self.fitting(prompt, rows, width)
        keys = [self.key(s, prompt.soft) for s in sequences]
        known = self.known(sequences, keys, prompt.soft, self._batch)
        self.tell(len(rows), len(rows))
        return arranged(sequences, [value for key in keys for value in known[key]], len(rows), width)

    def sequences(self, prompt: Prompt, rows: Sequence[Row], width: int) -> list[Sequence_]:
        """The prompt's text: one sequence a row where all words of its choices are one token, else one a word.

        A word that melts into the prompt's last token takes that token with it, for all words of the row.
        """
        tokenizer: Any = self.subject.tokenizer
        texts = [rendering.text(prompt, row, tokenizer) for row in rows]
        contexts = rendering.tokens(texts, prompt, tokenizer)
        words = [(i, j, word) for i, row in enumerate(rows) for j, some in enumerate(row.words) for word in some]
        followed = [rendering.following(texts[i], word, prompt.chat) for i, _, word in words]
        whole = rendering.tokens(followed, prompt, tokenizer)
        starts = [len(context) for context in contexts]
        for (i, _, _), tokens in zip(words, whole, strict=True):
            starts[i] = min(starts[i], len(os.path.commonprefix([contexts[i], tokens])), len(tokens) - 1)
        nothing = [first_token(tokenizer)]
        contexts = [context[:start] or nothing for context, start in zip(contexts, starts, strict=True)]
        targets: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for (i, j, _), tokens in zip(words, whole, strict=True):
            targets.setdefault(i, []).append((i * width + j, tuple(tokens[starts[i] :])))
        sequences = []
        for i, choices in targets.items():
            if all(len(tokens) == 1 for _, tokens in choices):
                sequences.append(Sequence_(tuple(contexts[i]), tuple(choices)))
            else:
                sequences += [Sequence_((*contexts[i], *tokens[:-1]), ((slot, tokens),)) for slot, tokens in choices]
        return sequences

    def fitting(self, prompt: Prompt, rows: Sequence[Row], width: int, virtual: int = 0) -> list[Sequence_]:
        """The same, of rows that are cut where they are too long behind the prompt's virtual tokens, or so many others. Raises
        UsageError where a prompt has no room for any.
        """
        sequences, limit = self.sequences(prompt, rows, width), positions(self.subject)
        room = math.inf if limit is None else limit - (prompt.soft.tokens if prompt.soft else virtual)
        long = {sequence.targets[0][0] // width for sequence in sequences if len(sequence.tokens) > room}
        if not long:
            return sequences

        def fits(row: Row) -> bool:
            return all(len(sequence.tokens) <= room for sequence in self.sequences(prompt, [row], width))

        self.cut.setdefault(prompt.name, set()).update(rows[index].digest for index in long)
        shorter = [context.cut(prompt, row, fits) if i in long else row for i, row in enumerate(rows)]
        return self.sequences(prompt, shorter, width)

    def known(
        self, sequences: list[Sequence_], keys: list[str], soft: Soft | None, work: Work, more: int = 0
    ) -> dict[str, list[float]]:
        """By key what `work` makes of the sequences, each of them with room for so many `more` tokens; from the cache where it
        has been done before.
        """
        found = self.cache.get(keys) if self.cache else {}
        items = list(zip(sequences, keys, strict=True))
        return found | dict(self._forward(items, found, soft, work, more))

    def _forward(
        self, items: list[Item], known: Mapping[str, Sequence[float]], soft: Soft | None, work: Work, more: int
    ) -> Iterator[tuple[str, list[float]]]:
        """Yields (key, numbers) of what is not known yet, batch by batch.

        Batches are cut from all items and the known ones left out of them: who goes on with what an interrupted call has
        kept computes the rest in the very batches of an uninterrupted one, to the last bit.
        """
        missing = {key for _, key in items} - known.keys()
        if not missing:
            return
        with torch.inference_mode(), self.computing():
            begun = begin(self.subject, shared_prefix([s.sharable for s, _ in items]), soft)
        virtual = begun.length - begun.skip
        padded = may_be_padded(self.subject, virtual + more + max(len(s.tokens) for s, _ in items))
        total, done = len(missing), 0
        for whole in batches(items, begun.skip, padded, Bounds.of(self.subject), virtual + more):
            batch = {key: sequence for sequence, key in whole if key in missing}
            if not batch:
                continue
            with self.computing():
                found = dict(zip(batch, in_halves(partial(work, begun=begun), list(batch.values())), strict=True))
            missing -= found.keys()
            if self.cache:
                self.cache.put(found)
            yield from found.items()
            done += len(found)
            self.computed += len(found)
            self.tell(done, total)

    @torch.inference_mode()
    def _batch(self, sequences: list[Sequence_], begun: Beginning) -> list[list[float]]:
        """Log-likelihoods of each sequence's targets."""
        values = iter(target_values(sequences, predictions(self.subject, sequences, begun)).tolist())
        return [list(islice(values, len(sequence.targets))) for sequence in sequences]

    def key(self, sequence: Sequence_, soft: Soft | None, *how: object) -> str:
        """What the sequence's numbers lie under; `how` sets another work on the same tokens apart."""
        about = (
            self.weights,
            sequence.tokens,
            [t for _, t in sequence.targets],
            *([soft.digest] if soft else []),
            *how,
        )
        return hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()


def conditions(subject: Subject, weights: str, compute: torch.dtype | None = None) -> str:
    """What a model's figures depend on to the last bit, beside its input: the weights, where and in which format it
    computes."""
    return f"{weights} {subject.device} {compute or subject.dtype} {torch.get_num_threads()} {torch.__version__}"


def arranged(sequences: Sequence[Sequence_], values: Sequence[float], rows: int, width: int) -> torch.Tensor:
    """The values of all sequences' targets, in order, as log-likelihoods [rows, width] in float64."""
    slots = [slot for sequence in sequences for slot, _ in sequence.targets]
    scored = torch.tensor(values, dtype=torch.float64)
    return folded(scored, slots, rows * width, -torch.inf).view(-1, width)


def shared_prefix(token_lists: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest common beginning that leaves every list at least one token."""
    shortest, longest = min(token_lists), max(token_lists)
    common = len(os.path.commonprefix([shortest, longest]))
    return shortest[: min(common, min(len(tokens) for tokens in token_lists) - 1)]


def batches(items: list[Item], skip: int, padded: bool, most: Bounds, virtual: int = 0) -> list[list[Item]]:
    """Sequences of similar length together, equal length unless padded; within both bounds."""
    ordered = sorted(items, key=lambda item: len(item[0].tokens))
    out: list[list[Item]] = [[]]
    for item in ordered:
        width = len(item[0].tokens) - skip
        differs = bool(out[-1]) and len(out[-1][0][0].tokens) != len(item[0].tokens)
        rows = len(out[-1]) + 1
        full = width * rows > most.tokens or (virtual + skip + width) * rows > most.cached
        if out[-1] and (full or (differs and not padded)):
            out.append([])
        out[-1].append(item)
    return out
