"""What a step that changes weights block by block keeps for resume: one file of weights a finished block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from engine import files
from engine.errors import EngineError
from engine.weights import writing
from engine.workspace import Workspace

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class BlockCheckpoints:
    """The finished blocks of the workspace's current step. Weights are {name: tensor that lives in the model}."""

    workspace: Workspace

    def load(self, block: int, weights: Weights) -> bool:
        """Puts a finished block's weights back; False when it is not finished."""
        file = self._file(block)
        if not file.is_file():
            return False
        stored = load_file(file)
        with torch.inference_mode():
            for name, weight in weights.items():
                weight.copy_(stored[name])
        self._tell(block, file)
        return True

    def save(self, block: int, weights: Weights) -> None:
        """Writes the block's weights, once."""
        file = self._file(block)
        if not file.is_file():
            stored = {name: weight.detach().contiguous() for name, weight in weights.items()}
            with writing(file):
                files.write_with(file, lambda part: save_file(stored, part))
        self._tell(block, file)

    def restore(self, blocks: list[Weights]) -> None:
        """Puts every block back. Raises EngineError when one is missing."""
        streamed = self.workspace.subject.stream is not None  # a streamed block is put back when somebody holds it
        for index, weights in enumerate(blocks):
            file = self._file(index)
            if streamed and file.is_file():
                self._tell(index, file)
            elif streamed or not self.load(index, weights):
                message = f"the checkpoint of block {index} is gone"
                raise EngineError(message, where=str(file), hint="start a new run")

    def _tell(self, block: int, file: Path) -> None:
        """A streamed model drops the block and reads it again later: from then on with this file's weights."""
        if self.workspace.subject.stream is not None:
            self.workspace.subject.stream.was_changed(block, file)

    def _file(self, block: int) -> Path:
        return self.workspace.checkpoint(f"block-{block}.safetensors")
