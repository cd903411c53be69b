"""The integer codes that a quantize step leaves beside its weights, for the exports: nothing is quantized twice.

One file a block; the model in memory holds what the codes mean. Knows nothing of file formats for users.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine import files
from engine.errors import UsageError
from engine.quantization.grid import Codes, Format, Grid
from engine.weights import writing

FORMATS = "formats"


def save(file: Path, made: dict[str, Codes]) -> None:
    """Writes a block's codes, {matrix name: codes}."""
    tensors = {}
    for name, codes in made.items():
        tensors[f"{name}.codes"] = codes.codes_OI.contiguous()
        tensors[f"{name}.scale"] = codes.grid.scale_OG.contiguous()
        tensors[f"{name}.zero"] = codes.grid.zero_OG.to(torch.uint8).contiguous()
    formats = json.dumps({name: asdict(codes.grid.format) for name, codes in made.items()})
    with writing(file):
        files.write_with(file, lambda part: save_file(tensors, part, metadata={FORMATS: formats}))


@dataclass(frozen=True)
class Quantized:
    """A model's codes on disk: the file and the format of every quantized matrix, by name."""

    files: dict[str, Path]
    formats: dict[str, Format]

    @classmethod
    def of(cls, blocks: list[Path]) -> Quantized:
        """What the blocks' files hold."""
        places: dict[str, Path] = {}
        formats: dict[str, Format] = {}
        for file in blocks:
            with safe_open(file, "pt") as stored:
                known = json.loads(stored.metadata()[FORMATS])
            places |= dict.fromkeys(known, file)
            formats |= {name: Format(**values) for name, values in known.items()}
        return cls(places, formats)

    def codes(self, name: str) -> Codes:
        """Of one matrix."""
        with safe_open(self.files[name], "pt") as stored:
            scale_OG, zero_OG = stored.get_tensor(f"{name}.scale"), stored.get_tensor(f"{name}.zero").float()
            return Codes(Grid(self.formats[name], scale_OG, zero_OG), stored.get_tensor(f"{name}.codes"))

    def current(self, name: str, weight_OI: torch.Tensor) -> Codes:
        """The codes of a matrix with this weight. Raises UsageError when a later step has changed it."""
        codes = self.codes(name)
        if codes.codes_OI.shape != weight_OI.shape or not torch.equal(
            codes.values().to(weight_OI.dtype), weight_OI.cpu()
        ):
            hint = "let quantize be the last step that changes weights"
            raise UsageError("the weight was changed after it was quantized", where=name, hint=hint)
        return codes
