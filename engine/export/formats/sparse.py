"""Bitmask and kept values inside safetensors, so that zeros take no bytes; expanded on load by the script beside the weights.

Per tensor that is worth it: `name#mask`, a bit for every weight; `name#kept`, the others in order; `name#shape`. Of a quantized
matrix `name#codes`, bit k of every kept code in row k, with `name#scale` and `name#zero` per group. Bits are packed eight a
byte, the first one lowest. The layout's reader is engine/export/load_sparse.py, which is copied into the folder.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import torch

from engine.export import coded
from engine.export.format import ExportFormat, need_language_model
from engine.inspection import weight_files
from engine.model import tokenizer
from engine.profile import ModelOptions
from engine.quantization.grid import Codes, Format
from engine.streaming import read_generation
from engine.subject import DTYPES, Subject
from engine.weights import weights_hash

NAME = "sparse"
LOADER = Path(__file__).parents[1] / "load_sparse.py"


def check(subject: Subject, form: Format | None) -> None:
    need_language_model(subject, NAME)
    if form is not None:
        coded.check_linear(subject, NAME)


def write(subject: Subject, folder: Path, dtype: torch.dtype) -> None:
    """Writes the model into the (new, empty) folder."""

    def change(state: coded.State) -> coded.State:
        stored: coded.State = {}
        for name, tensor in state.items():
            stored |= sparse(name, tensor, coded.codes_of(subject, name, tensor), dtype)
        return stored

    coded.write(subject, folder, dtype, change)
    shutil.copyfile(LOADER, folder / LOADER.name)


def sparse(name: str, tensor: torch.Tensor, codes: Codes | None, dtype: torch.dtype) -> coded.State:
    """The tensors of one weight as the file has them: itself where nothing is gained."""
    if codes is None and (tensor.ndim < 2 or not tensor.is_floating_point()):
        return {name: tensor}
    tensor = tensor.cpu()
    width = codes.grid.format.bits if codes is not None else 8 * dtype.itemsize
    kept = (tensor if codes is not None else tensor.to(dtype)) != 0
    masked = float((~kept).float().mean()) * width > 1
    if codes is None and not masked:
        return {name: tensor}
    chosen = kept if masked else torch.ones_like(kept)
    out = {f"{name}#shape": torch.tensor(tensor.shape)}
    if masked:
        out[f"{name}#mask"] = packed(kept.flatten())
    if codes is None:
        return out | {f"{name}#kept": tensor[chosen]}
    planes = torch.stack([codes.codes_OI[chosen] >> bit & 1 for bit in range(width)])
    zero_OG = codes.grid.zero_OG.to(torch.uint8)
    scale_OG = codes.grid.scale_OG.to(torch.bfloat16)  # which holds it as it is
    return out | {f"{name}#codes": packed(planes), f"{name}#scale": scale_OG, f"{name}#zero": zero_OG}


def packed(bits: torch.Tensor) -> torch.Tensor:
    """Zeros and ones [..., n] eight a byte [..., n / 8]."""
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % 8))
    eight = padded.reshape(*bits.shape[:-1], -1, 8) << torch.arange(8, dtype=torch.uint8)
    return eight.sum(-1, dtype=torch.uint8)


def read(options: ModelOptions, folder: Path) -> Subject:
    """The model, by the script in the folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    state = runpy.run_path(str(folder / LOADER.name))["load"](*map(str, weight_files(folder)))
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    module: Any = AutoModelForCausalLM.from_config(config, dtype=DTYPES[options.dtype], trust_remote_code=False)
    read_generation(module, folder)
    module.load_state_dict(state, strict=False)  # tied weights are there once
    module.tie_weights()
    module.to(torch.device(options.device)).eval().requires_grad_(False)
    return Subject(module, str(folder), weights_hash(module), tokenizer(str(folder)))


FORMAT = ExportFormat(write=write, read=read, check=check, codes=True, sparse=True, script=LOADER)
