"""The model under compression as everything downstream sees it: a `Subject`.

A torch module with, for language models, a tokenizer, or, for other modules, the features and labels they are measured on. No
architecture is named: blocks are the largest list of modules, matrices are found by watching products (see calibration.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from engine import streaming
from engine.data.features import Features
from engine.errors import EngineError
from engine.streaming import Streamed

if TYPE_CHECKING:
    from engine.quantization.store import Quantized

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Origin:
    """Where a structurally pruned model's blocks and hidden dimensions come from: indices in the dense model; None means
    all of them.
    """

    blocks: list[int] | None = None
    hidden: list[int] | None = None

    def after(self, earlier: Origin) -> Origin:
        """The origin in the dense model, when this one's indices are of a model that has `earlier` behind it."""
        return Origin(_through(self.blocks, earlier.blocks), _through(self.hidden, earlier.hidden))


def _through(later: list[int] | None, earlier: list[int] | None) -> list[int] | None:
    if later is None or earlier is None:
        return later if earlier is None else earlier
    return [earlier[index] for index in later]


@dataclass
class Subject:
    """A model and what is needed to run it. `fingerprint` identifies its weights before any change.

    `stream` is there when the blocks' weights stay on disk: they are in memory only while somebody holds them; `quantized` when
    a step has made codes of the matrices.
    """

    module: nn.Module
    source: str
    fingerprint: str
    tokenizer: Any | None = None
    features: Features | None = None
    origin: Origin = Origin()
    stream: Streamed | None = None
    quantized: Quantized | None = None

    @property
    def device(self) -> torch.device:
        return self.stream.device if self.stream is not None else next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @property
    def is_language_model(self) -> bool:
        return self.tokenizer is not None

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def bytes(self) -> int:
        """Bytes of the weights as the run holds them."""
        return sum(p.numel() * p.element_size() for p in self.module.parameters())

    def blocks(self) -> list[nn.Module]:
        """The decoder blocks: the modules of the largest ModuleList; other modules are one block as a whole."""
        if not self.is_language_model:
            return [self.module]
        blocks = streaming.largest_list(self.module)
        if not blocks:
            raise EngineError("the model has no list of blocks", where=self.source)
        return blocks

    def holding(self, block: int) -> AbstractContextManager[None]:
        """The block's weights are in memory inside."""
        return nullcontext() if self.stream is None else self.stream.holding(block)

    def rest(self) -> AbstractContextManager[None]:
        """What is no block (embeddings, final norm, head) is in memory inside."""
        return self.holding(streaming.REST)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter and buffer by name, tied ones once; of a streamed model one block after the other."""
        if self.stream is not None:
            yield from self.stream.tensors()
            return
        for name, parameter in self.module.named_parameters():
            yield name, parameter.data
        yield from self.module.named_buffers()

    def token_ids(self, text: str) -> torch.Tensor:
        """Token ids [tokens] of a whole text."""
        assert self.tokenizer is not None
        return torch.tensor(self.tokenizer(text, verbose=False).input_ids, dtype=torch.long)
