"""Answers in the model's own words, by greedy decoding: the same for a row alone and in a batch, up to rounding.

What all rows of a prompt share at the front is encoded once, rows are batched by length and padded on the left, and what was
written is kept on disk by (weights, virtual tokens, tokens, limits): see scorer.py, which does both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.data.rows import Row
from engine.data.tasks import Generation
from engine.prompts import context, rendering
from engine.prompts.forward import Beginning, Sequence_, ends, first_token, positions, repeated
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.subject import Subject


def generated(scorer: Scorer, how: Generation, prompt: Prompt, rows: Sequence[Row]) -> tuple[str, ...]:
    """An answer a row. Raises UsageError where a prompt and an answer leave no room for a row."""
    sequences = fitting(scorer, how, prompt, rows)
    last = sorted(ends(scorer.subject), key=str)
    keys = [scorer.key(s, prompt.soft, how.tokens, how.stop, last) for s in sequences]
    decoder = Decoder(scorer.subject, how)
    found = scorer.known(sequences, keys, prompt.soft, decoder.decode, how.tokens)
    scorer.tell(len(rows), len(rows))
    return tuple(decoder.text([int(i) for i in found[key]]) for key in keys)


def fitting(scorer: Scorer, how: Generation, prompt: Prompt, rows: Sequence[Row]) -> list[Sequence_]:
    """What is to be gone on from, a sequence a row that leaves room for its answer."""
    made = sequences(scorer, prompt, rows)
    short = shortened(scorer, how, prompt, rows, made)
    return made if short is rows else sequences(scorer, prompt, short)


def shortened(
    scorer: Scorer, how: Generation, prompt: Prompt, rows: Sequence[Row], made: Sequence[Sequence_], virtual: int = 0
) -> Sequence[Row]:
    """The rows, whose sequences are `made`; those that leave no room for an answer behind the prompt's virtual tokens, or so
    many others, are cut as the scorer cuts them. Raises UsageError where a prompt has no room for any.
    """
    limit = positions(scorer.subject)
    room = math.inf if limit is None else limit - how.tokens - (prompt.soft.tokens if prompt.soft else virtual)
    long = {i for i, sequence in enumerate(made) if len(sequence.tokens) > room}
    if not long:
        return rows
    scorer.cut.setdefault(prompt.name, set()).update(rows[i].digest for i in long)
    fits = lambda row: len(sequences(scorer, prompt, [row])[0].tokens) <= room  # noqa: E731
    return [context.cut(prompt, row, fits) if i in long else row for i, row in enumerate(rows)]


def sequences(scorer: Scorer, prompt: Prompt, rows: Sequence[Row]) -> list[Sequence_]:
    """The prompt's text with every row."""
    tokenizer: Any = scorer.subject.tokenizer
    contexts = rendering.tokens([rendering.text(prompt, row, tokenizer) for row in rows], prompt, tokenizer)
    return [Sequence_(tuple(ids or [first_token(tokenizer)]), ()) for ids in contexts]


@dataclass(frozen=True)
class Decoder:
    """Writes one batch at a time; a model that gives no key/value cache reads everything anew for every token. Shapes: R rows,
    T tokens.
    """

    subject: Subject
    how: Generation

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence_], begun: Beginning) -> list[list[float]]:
        """Token ids of every sequence's answer, its end included where it came to one."""
        module: Any = self.subject.module
        device, last = self.subject.device, ends(self.subject)
        rows = [s.tokens[begun.skip :] for s in sequences]
        length = max(len(row) for row in rows)
        pad_R1 = torch.tensor([[length - len(row)] for row in rows], device=device)
        ids_RT = torch.tensor([[0] * (length - len(row)) + list(row) for row in rows], device=device)
        places_RT = (torch.arange(length, device=device) - pad_R1).clamp_min(0) + begun.length
        before = torch.ones(len(rows), begun.length, device=device, dtype=torch.bool)
        seen_RT = torch.cat([before, torch.arange(length, device=device) >= pad_R1], dim=1)
        cache: dict[str, Any] = {}
        if begun.past is not None:
            cache = {"past_key_values": repeated(begun.past, len(rows))}
        written: list[list[int]] = [[] for _ in rows]
        going = set(range(len(rows)))
        while going:
            out = module(ids_RT, attention_mask=seen_RT.long(), position_ids=places_RT, use_cache=True, logits_to_keep=1,
                         **cache)  # fmt: skip
            next_R1, next_places_R1 = out.logits[:, -1:].argmax(-1), places_RT[:, -1:] + 1
            past = getattr(out, "past_key_values", None)
            if past is None:
                ids_RT, places_RT = torch.cat([ids_RT, next_R1], 1), torch.cat([places_RT, next_places_R1], 1)
            else:
                ids_RT, places_RT, cache = next_R1, next_places_R1, {"past_key_values": past}
            chosen = next_R1[:, 0].tolist()
            for i in list(going):
                written[i].append(chosen[i])
                if chosen[i] in last or self._ended(written[i]):
                    going.remove(i)
            seen_RT = torch.cat([seen_RT, torch.ones_like(seen_RT[:, :1])], dim=1)
        return [[float(i) for i in ids] for ids in written]

    def _ended(self, ids: list[int]) -> bool:
        return len(ids) == self.how.tokens or bool(self.how.stop and self.how.stop in self._read(ids))

    def text(self, ids: list[int]) -> str:
        """The answer in the tokens, up to where it stops."""
        read = self._read(ids)
        return (read.partition(self.how.stop)[0] if self.how.stop else read).strip()

    def _read(self, ids: list[int]) -> str:
        tokenizer: Any = self.subject.tokenizer
        read: str = tokenizer.decode(ids, skip_special_tokens=True)
        return read
