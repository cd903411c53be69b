"""One forward of scored sequences. What they all begin with, virtual tokens first, is encoded once; the rest in a batch.

Scoring and training call it, without and with gradients. Shapes: R rows, K last positions, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.prompts.soft import Soft
from engine.subject import Subject

SHORTEST_PREFIX = 8
WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")  # of Mistral and many others, GPT-Neo, Llama 4
UNMASKED = {"mpt"}  # whose ALiBi goes by a key's place in the cache


@dataclass(frozen=True)
class Sequence_:
    """One forward: `tokens`, and at its end the `targets`: (slot in the result, token ids of a choice's word).

    The words of a choice share its slot. With several targets each is a single token; one longer target has its tokens but
    the last at the sequence's end; without any the sequence is to be gone on from.
    """

    tokens: tuple[int, ...]
    targets: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def positions(self) -> int:
        """How many final positions' predictions are needed."""
        return max((len(tokens) for _, tokens in self.targets), default=1)

    @property
    def sharable(self) -> tuple[int, ...]:
        """The tokens whose predictions nobody needs, and one more."""
        return self.tokens[: len(self.tokens) - self.positions + 1]


@dataclass(frozen=True)
class Beginning:
    """The key/value cache of one sequence with `length` positions, the last `skip` of them tokens of the text."""

    past: Any | None
    length: int
    skip: int


def begin(subject: Subject, tokens: tuple[int, ...], soft: Soft | None) -> Beginning:
    """Encodes the virtual tokens and the text's shared ones; few of the latter are left to the rows, and all where the model
    keeps a state of the whole text.
    """
    module: Any = subject.module
    past, length = (soft.past(subject), soft.tokens) if soft else (None, 0)
    if len(tokens) < SHORTEST_PREFIX or is_stateful(subject):
        return Beginning(past, length, 0)
    ids = torch.tensor([tokens], device=subject.device)
    virtual = {} if past is None else {"past_key_values": past}
    past = getattr(module(ids, use_cache=True, logits_to_keep=1, **virtual), "past_key_values", None)
    return Beginning(past, length + len(tokens), len(tokens)) if may_be_shared(past) else Beginning(None, 0, 0)


def predictions(subject: Subject, sequences: Sequence[Sequence_], begun: Beginning) -> torch.Tensor:
    """Log-probabilities [R, K, V] in float32 at the last positions; rows are padded on the left, behind the beginning."""
    rows = [s.tokens[begun.skip :] for s in sequences]
    last, before = max(s.positions for s in sequences), [begun.length] * len(rows)
    found: torch.Tensor = onward(subject, rows, before, begun.length, last, **behind(begun, len(rows))).logits
    return found.float().log_softmax(-1)


def onward(
    subject: Subject, rows: Sequence[Sequence[int]], before: Sequence[int], held: int, last: int, **how: Any
) -> Any:
    """What the model makes of rows, each padded on the left, behind as many positions of its own as `before` says: the last
    ones of the `held` ones in its cache.
    """
    module: Any = subject.module
    device, length = subject.device, max(map(len, rows))
    pad_R1 = torch.tensor([[length - len(row)] for row in rows], device=device)
    before_R1 = torch.tensor(before, device=device)[:, None]
    ids_RT = torch.tensor([[0] * (length - len(row)) + list(row) for row in rows], device=device)
    real_RT = torch.arange(length, device=device) >= pad_R1
    held_RT = torch.arange(held, device=device) >= held - before_R1
    places_RT = (torch.arange(length, device=device) - pad_R1).clamp_min(0) + before_R1
    return module(
        ids_RT, attention_mask=torch.cat([held_RT, real_RT], dim=1).long(), position_ids=places_RT,
        logits_to_keep=last, **how,
    )  # fmt: skip


def behind(begun: Beginning, rows: int) -> dict[str, Any]:
    """The arguments with which so many rows go on from the beginning."""
    if begun.past is None:
        return {"use_cache": False}
    return {"past_key_values": repeated(begun.past, rows), "use_cache": True}


def first_token(tokenizer: Any) -> int:
    """What stands before a text that has none of its own to begin with."""
    return next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)


def is_stateful(subject: Subject) -> bool:
    """Whether the model is known to keep a state of the whole text: transformers does not say so of all that do."""
    return getattr(subject.module, "_is_stateful", False)


def may_be_shared(past: Any) -> bool:
    """Whether rows may go on from copies of a cache: it holds keys and values of every position and nothing else."""
    layers = getattr(past, "layers", [])
    held = (hasattr(layer, "batch_repeat_interleave") and not hasattr(layer, "conv_states") for layer in layers)
    return bool(layers) and all(held)


def may_be_padded(subject: Subject, longest: int) -> bool:
    """Whether rows behind a beginning may be padded: not where a window or a chunk of attention, or distances of positions that
    are counted without the mask, would count the padding.
    """
    module: Any = subject.module
    config = module.config.get_text_config()
    windows = [window for name in WINDOWS if (window := getattr(config, name, None)) is not None]
    return config.model_type not in UNMASKED and longest <= min(windows, default=longest)


def positions(subject: Subject) -> int | None:
    """How many the model has; None where nothing limits them."""
    module: Any = subject.module
    limit: int | None = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    return limit


def ends(subject: Subject) -> set[int]:
    """The tokens at which the model's texts end by themselves."""
    module: Any = subject.module
    found = module.generation_config.eos_token_id
    return set(found) if isinstance(found, list) else {found} - {None}


def repeated(past: Any, rows: int) -> Any:
    """The cache for so many rows. Its layers are new and their tensors are, so that the given one does not grow."""
    cache = copy.copy(past)
    cache.layers = [copy.copy(layer) for layer in past.layers]
    cache.batch_repeat_interleave(rows)
    return cache


def folded(values_S: torch.Tensor, slots: Sequence[int], size: int, absent: float) -> torch.Tensor:
    """One value a slot [size]: log-sum-exp of the log-likelihoods [S] that fall into it, `absent` where none does.

    A class is as likely as its words together (Schick & Schütze 2021, arXiv 2001.07676; with several words summed as in
    knowledgeable prompt tuning, Hu et al. 2022, arXiv 2108.02035); a single word keeps its value to the bit.
    """
    into = torch.tensor(slots, device=values_S.device)
    empty = torch.full((size,), -torch.inf, dtype=values_S.dtype, device=values_S.device)
    most = empty.scatter_reduce(0, into, values_S.detach(), "amax")
    total = torch.zeros_like(empty).index_add(0, into, (values_S - most[into]).exp())
    met = total > 0
    return torch.where(met, total.where(met, torch.ones_like(total)).log() + most, torch.full_like(empty, absent))


def target_values(sequences: Sequence[Sequence_], log_probs_RKV: torch.Tensor) -> torch.Tensor:
    """Summed log-probabilities [T] in float64 (in float32 on MPS, which has no other) of all targets of all sequences, in
    order, from the predictions at their last K positions; all are read at once, as a device is slow to answer.
    """
    last, device = log_probs_RKV.shape[1], log_probs_RKV.device
    targets = [(row, tokens) for row, sequence in enumerate(sequences) for _, tokens in sequence.targets]
    longest = max(len(tokens) for _, tokens in targets)
    rows = torch.tensor([row for row, _ in targets], device=device)[:, None]
    ids = torch.tensor([[0] * (longest - len(tokens)) + list(tokens) for _, tokens in targets], device=device)
    missing = torch.tensor([longest - len(tokens) for _, tokens in targets], device=device)[:, None]
    places = torch.arange(longest, device=device)
    found = log_probs_RKV[rows, places + last - longest, ids]
    found = found if device.type == "mps" else found.double()
    return found.where(places >= missing, torch.zeros_like(found)).sum(1)
