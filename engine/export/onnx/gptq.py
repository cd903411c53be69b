"""A folder in the layout of GPTQ checkpoints, which onnxruntime-genai's builder reads; not an export of its own.

Codes lie in 32-bit words, lowest bits first: along the inputs for weights, along the outputs for the codes of zero, which are
stored less one. Scales are [groups, outputs].

Shapes: O out, I in, G groups of a row.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from engine import files
from engine.export import coded
from engine.quantization.grid import Codes, Format
from engine.subject import Subject

WORD = 32


def write(subject: Subject, folder: Path, form: Format) -> None:
    """Writes the quantized model into the (existing, empty) folder, in float32 beside the codes."""
    coded.write(subject, folder, torch.float32, lambda state: packed_state(subject, state))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": form.bits, "group_size": form.group, "sym": form.symmetric, "desc_act": False,
    }  # fmt: skip
    files.write_text(file, json.dumps(config, indent=2) + "\n")


def packed_state(subject: Subject, state: coded.State) -> coded.State:
    """The tensors of a part as the folder has them."""
    out: coded.State = {}
    for name, tensor in state.items():
        codes = coded.codes_of(subject, name, tensor)
        out |= {name: tensor} if codes is None else packed(name.removesuffix(".weight"), codes)
    return out


def packed(layer: str, codes: Codes) -> coded.State:
    """The tensors of one layer's weight."""
    form, columns = codes.grid.format, codes.codes_OI.shape[1]
    zero_GO = (codes.grid.zero_OG.T.int() - 1) & form.top
    return {
        f"{layer}.qweight": words(codes.codes_OI.T, form.bits),
        f"{layer}.qzeros": words(zero_GO.T, form.bits).T,
        f"{layer}.scales": codes.grid.scale_OG.T,
        f"{layer}.g_idx": torch.arange(columns, dtype=torch.int32) // form.width(columns),
    }


def words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [n, m] in 32-bit words [n bits / 32, m]."""
    each = WORD // bits
    padded = torch.nn.functional.pad(codes.long(), (0, 0, 0, -len(codes) % each))
    shifted = padded.reshape(-1, each, codes.shape[1]) << (bits * torch.arange(each))[:, None]
    return shifted.sum(1).to(torch.uint32).view(torch.int32)
