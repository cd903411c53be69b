"""What an export format is: how it is written, what it refuses before any work, how it is read back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.errors import UsageError
from engine.profile import ModelOptions
from engine.quantization.grid import Format
from engine.subject import Subject
from engine.weights import WIDER

Write = Callable[[Subject, Path, torch.dtype], None]
Check = Callable[[Subject, Format | None], None]
Read = Callable[[ModelOptions, Path], Subject]
Largest = Callable[[str, torch.Tensor, torch.dtype], float]


def anything(subject: Subject, form: Format | None) -> None:
    """Refuses nothing."""


def of_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> float:
    """The largest number in the dtype asked for."""
    return torch.finfo(dtype).max


def of_any_size(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> float:
    """No limit, in a file of float32."""
    return math.inf


@dataclass(frozen=True)
class ExportFormat:
    """`write(subject, new and empty folder, dtype)`; `check(subject, format of the quantize step before it or None)` raises
    UsageError for what the format cannot hold; `read(model options, folder)` is the artifact as its runtime has it, or None
    where that is no torch model.

    Files that match `weights` are what the artifact's size counts. `runtime`, in engine/export/runtime, runs it.
    Perplexity may change by `tolerance` (relative), and another runtime's answers be `divergence` (nats a token) from those in
    memory; either by any amount where writing rounds (None). `largest(name, weight, dtype asked for)` is the largest magnitude
    that the file can hold of a weight. Without `zeros` what pruning
    removed comes out as nearly zero. `inside` and `outside` are about the bits of a weight in the blocks' matrices and of any
    other; None where these have the dtype asked for. `codes` of a quantize step go in as they are; `sparse`: a zero is one bit.
    What is not `typed` has number formats of its own, whatever is asked for. What a format that `streams` wrote can be read
    block by block. Where a quantize step rounds the layers' `inputs` too, who runs the file does that. `doubts(subject)` is
    what is known of other readers that would refuse the written file.
    `script` is a program that loads the artifact without this package; `write` leaves it beside the weights.
    """

    write: Write
    read: Read | None
    check: Check = anything
    doubts: Callable[[Subject], list[str]] = lambda subject: []
    weights: str = "*.safetensors"
    runtime: str = "torch"
    tolerance: float | None = 0.01
    divergence: float | None = None
    largest: Largest = of_dtype
    zeros: bool = True
    inside: float | None = None
    outside: float | None = None
    codes: bool = False
    sparse: bool = False
    streams: bool = False
    inputs: bool = False
    typed: bool = True
    script: Path | None = None

    @property
    def adapters(self) -> bool:
        """Whether what peft adds, such as learned virtual tokens, can be used with the artifact."""
        return self.runtime == "torch"

    def bits(self, dtype: torch.dtype, codes: Format | None, columns: int) -> tuple[float, float]:
        """Of a weight in the blocks' matrices, so many columns wide, and of any other."""
        number = 8.0 * dtype.itemsize
        inside = self.inside or number
        if codes is not None and self.codes:  # blocks of GGUF may take more than the codes need
            inside = max(codes.bits_a_weight(columns), self.inside or 0.0)
        return inside, self.outside or number

    def bytes(self, folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.glob(self.weights))


def need_language_model(subject: Subject, name: str) -> None:
    """Raises UsageError for a module that is no language model."""
    if not subject.is_language_model:
        raise UsageError(f"{name} holds language models only", where=subject.source, hint='format = "safetensors"')


def need_codes(form: Format | None, name: str) -> Format:
    """Raises UsageError where nothing was quantized."""
    if form is None:
        hint = 'put a step with use = "quantize" before it, or choose another format'
        raise UsageError(
            f"{name} holds quantized models, and no step before it quantizes", where="step.format", hint=hint
        )
    return form


def check_range(subject: Subject, form: ExportFormat, name: str, dtype: torch.dtype) -> None:
    """Raises UsageError for a weight that is too large for the file. Weights are read only where the file holds less than the
    model's number format (float32 taken for bfloat16, which has its exponents).
    """
    reach = min(torch.finfo(subject.dtype).max, torch.finfo(torch.bfloat16).max)
    known = {which: form.largest(which, weight, dtype) for which, weight in subject.module.named_parameters()}
    limits = {which: limit for which, limit in known.items() if limit < reach}
    for which, weight in subject.tensors() if limits else ():
        limit = limits.get(which, math.inf)
        size = max(abs(float(extreme)) for extreme in weight.aminmax()) if limit < math.inf and weight.numel() else 0.0
        if size > limit:
            plain = form.largest is of_dtype
            holder, hint = (str(dtype).removeprefix("torch."), WIDER) if plain else (name, 'format = "safetensors"')
            message = f"{holder} holds numbers up to {limit:.3g} here, and a weight has {size:.3g}"
            raise UsageError(message, where=which, hint=hint)
