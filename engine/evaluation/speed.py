"""Prefill and decode speed in tokens per second, medians over repetitions."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from engine.subject import Subject

PREFILL, PROMPT, DECODE, REPEATS = 256, 20, 32, 3


@dataclass(frozen=True)
class Speed:
    """Tokens per second."""

    prefill: float
    decode: float


def speed(subject: Subject) -> Speed:
    """Prefill of 256 tokens; decode of 32 tokens after 20, greedily, batch 1; the first round is not counted.

    Fewer where the model has fewer positions.
    """
    with torch.inference_mode():
        rounds = [(_prefill(subject), _decode(subject)) for _ in range(REPEATS + 1)][1:]
    prefill, decode = zip(*rounds, strict=True)
    return Speed(statistics.median(prefill), statistics.median(decode))


def _prefill(subject: Subject) -> float:
    length = min(PREFILL, positions(subject))
    ids = torch.arange(length, device=subject.device)[None] + 100
    began = _now(subject)
    subject.module(ids % vocabulary(subject), use_cache=True, logits_to_keep=1)
    return length / (_now(subject) - began)


def _decode(subject: Subject) -> float:
    model: Any = subject.module
    ids = (torch.arange(PROMPT, device=subject.device)[None] + 100) % vocabulary(subject)
    out = model(ids, use_cache=True, logits_to_keep=1)
    steps = min(DECODE, positions(subject) - PROMPT)
    began = _now(subject)
    for _ in range(steps):
        ids = out.logits[:, -1:].argmax(-1)
        out = model(ids, past_key_values=out.past_key_values, use_cache=True)
    return steps / (_now(subject) - began)


def vocabulary(subject: Subject) -> int:
    """Rows of the input embeddings."""
    model: Any = subject.module
    return int(model.get_input_embeddings().weight.shape[0])


def positions(subject: Subject) -> int:
    """How many tokens the model can take."""
    model: Any = subject.module
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or PREFILL)


def _now(subject: Subject) -> float:
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)
    return time.perf_counter()
