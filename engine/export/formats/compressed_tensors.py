"""Integer codes as compressed-tensors folders: "pack-quantized", or where inputs are rounded too "int-quantized".

Per Linear layer: codes packed into 32-bit words along a row, scales, and, where zero is not the middle code, the codes of zero
packed along the columns; beside rounded inputs codes of eight bits as they are. `quantization_config` in config.json says
which layers have which format. Codes there are signed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import files
from engine.errors import UsageError
from engine.export import coded, served
from engine.export.format import ExportFormat, need_codes, need_language_model
from engine.model import reload
from engine.profile import ModelOptions
from engine.quantization.grid import Codes, Format
from engine.subject import Subject

NAME = "compressed-tensors"
SCRIPT = Path(__file__).parents[1] / "run_compressed_tensors.py"


def check(subject: Subject, form: Format | None) -> None:
    need_language_model(subject, NAME)
    found = need_codes(form, NAME)
    if not found.bits and not found.symmetric:
        message = "transformers reads layers of different bits only where zero is the middle code"
        raise UsageError(
            message, where="step.format", hint='symmetric = true in the quantize step, or format = "sparse"'
        )
    coded.check_linear(subject, NAME)


def write(subject: Subject, folder: Path, dtype: torch.dtype) -> None:
    """Writes the model into the (new, empty) folder; what is not quantized in this number format."""
    assert subject.quantized is not None
    coded.write(subject, folder, dtype, lambda state: packed_state(subject, state))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["quantization_config"] = quantization_config(subject.module, subject.quantized.formats)
    files.write_text(file, json.dumps(config, indent=2) + "\n")
    shutil.copyfile(SCRIPT, folder / SCRIPT.name)


def packed_state(subject: Subject, state: coded.State) -> coded.State:
    """The tensors of a part as the file has them."""
    out: coded.State = {}
    for name, tensor in state.items():
        codes = coded.codes_of(subject, name, tensor)
        out |= {name: tensor} if codes is None else packed(name, codes)
    return out


def packed(name: str, codes: Codes) -> coded.State:
    """The tensors of one Linear layer's weight."""
    from compressed_tensors.compressors.pack_quantized import pack_to_int32

    form, middle = codes.grid.format, 1 << (codes.grid.format.bits - 1)
    signed_OI = (codes.codes_OI.int() - middle).to(torch.int8)
    if form.inputs:
        return {name: signed_OI, f"{name}_scale": codes.grid.scale_OG}
    out = {
        f"{name}_packed": pack_to_int32(signed_OI, form.bits),
        f"{name}_scale": codes.grid.scale_OG,
        f"{name}_shape": torch.tensor(codes.codes_OI.shape),
    }
    if not form.symmetric:
        zero_OG = (codes.grid.zero_OG - middle).to(torch.int8)
        out[f"{name}_zero_point"] = pack_to_int32(zero_OG, form.bits, packed_dim=0)
    return out


def quantization_config(module: nn.Module, formats: dict[str, Format]) -> dict[str, Any]:
    """What config.json says; layers of one format are one group."""
    layers = [name for name, found in module.named_modules() if isinstance(found, nn.Linear)]
    groups: dict[Format, list[str]] = {}
    for name in layers:
        if f"{name}.weight" in formats:
            groups.setdefault(formats[f"{name}.weight"], []).append(name)
    asymmetric = any(not form.symmetric for form in groups)
    rounded = any(form.inputs for form in groups)
    return {
        "quant_method": NAME, "format": "int-quantized" if rounded else "pack-quantized", "quantization_status": "compressed",
        "config_groups": {
            f"group_{index}": {"targets": ["Linear"] if len(groups) == 1 else names, "weights": weights(form),
                               "input_activations": inputs(form), "output_activations": None}
            for index, (form, names) in enumerate(groups.items())
        },
        "ignore": [name for name in layers if f"{name}.weight" not in formats],
        "kv_cache_scheme": None, "global_compression_ratio": None,
        # transformers lays packed codes of zero out wrongly unless it expands the weights while loading
        **({"dequantize": True} if asymmetric else {}),
    }  # fmt: skip


def weights(form: Format) -> dict[str, Any]:
    return {
        "num_bits": form.bits, "type": "int", "symmetric": form.symmetric, "dynamic": False,
        "strategy": "group" if form.group else "channel", "group_size": form.group or None,
    }  # fmt: skip


def inputs(form: Format) -> dict[str, Any] | None:
    """A scale for every token, found while the model runs."""
    if not form.inputs:
        return None
    return {"num_bits": form.inputs, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}


def doubts(subject: Subject) -> list[str]:
    assert subject.quantized is not None
    return served.doubts(subject.quantized.formats)


def read(options: ModelOptions, folder: Path) -> Subject:
    """The model as transformers has it once it runs: with weights in place of their codes."""
    subject = reload(options, folder)
    quantizer: Any = getattr(subject.module, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.compressor.decompress_model(subject.module)
    return subject


FORMAT = ExportFormat(write=write, read=read, check=check, codes=True, inputs=True, doubts=doubts, script=SCRIPT)
