"""Decoder models as a folder for onnxruntime-genai, written by its model builder in a process of its own.

Weights that a step has quantized go in as MatMulNBits with these codes; activations of such products are rounded to eight bits
(accuracy level 4), and the head, with which the embeddings are shared where they are tied, is rounded to eight bits too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from engine import children, files
from engine.errors import EngineError, Unavailable, UsageError
from engine.export import coded
from engine.export.format import need_codes, need_language_model
from engine.export.formats import safetensors
from engine.export.onnx import gptq
from engine.quantization.grid import Format
from engine.subject import Subject

FAMILY = ("llama", "mistral", "qwen2")
ROPE = {"llama": ("default", "llama3", "dynamic"), "mistral": ("default", "linear"), "qwen2": ("default", "linear")}
"""rotary embeddings that the builder writes right. On others it fails or writes other ones: for llama's linear ones default
ones, for qwen2's yarn ones yarn with other constants
"""
HEAD = 16
"""GroupQueryAttention rotates heads of multiples of so many dimensions"""
BUILDER = "onnxruntime_genai.models.builder"
NEEDED = ("onnxruntime", "onnxruntime_genai", "onnx", "onnx_ir")
HINT = "pip install 'compress-tui[onnx]'"
QUANTIZED = ("accuracy_level=4", "algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8")


def need(packages: Iterable[str]) -> None:
    """Raises Unavailable where a package that writes or runs the file is missing."""
    for package in packages:
        if find_spec(package) is None:
            raise Unavailable(f"ONNX exports need {package}", where="step.format", hint=HINT)


def check(subject: Subject, form: Format | None, bits: int | None) -> None:
    """Raises UsageError for a model that the builder does not take with codes of so many bits, or in float32 (None)."""
    name = f"onnx_int{bits}" if bits else "onnx_fp32"
    need_language_model(subject, name)
    need(NEEDED)
    module: Any = subject.module
    if module.config.model_type not in FAMILY:
        message = f"{name} is written for {', '.join(FAMILY)}, not {module.config.model_type}"
        raise UsageError(message, where=subject.source, hint='format = "safetensors"')
    if len({tuple(p.shape for p in block.parameters()) for block in subject.blocks()}) > 1:
        message = f"{name} is written for blocks of equal widths only"
        raise UsageError(message, where=subject.source, hint='format = "safetensors"')
    for what in limits(module.config):
        raise UsageError(f"{name} cannot be written with {what}", where=subject.source, hint='format = "safetensors"')
    if bits is None:
        return
    coded.check_linear(subject, name)
    found = need_codes(form, name)
    if found.bits != bits or not found.group:
        what = f"{found.bits or 'several numbers of'} bits" if found.bits != bits else "a scale for every row"
        hint = f"bits = {bits}, group = 32 in the quantize step" + (
            "; ONNX packs 4 or 8 bits" if found.bits == 3 else ""
        )
        raise UsageError(f"{name} cannot hold codes with {what}", where="step.format", hint=hint)


def limits(config: Any) -> Iterator[str]:
    """What the builder or the runtime cannot do in a model of the family."""
    rope = getattr(config, "rope_parameters", None) or {}
    if (kind := rope.get("rope_type", "default")) not in ROPE[config.model_type]:
        yield f"{kind} rotary embeddings of {config.model_type}"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        yield "rotary embeddings of a part of each head"
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size % HEAD:
        yield f"heads of {size} dimensions, which are no multiple of {HEAD}"
    window = getattr(config, "sliding_window", None)
    dropped = config.model_type == "mistral" and window and window < config.max_position_embeddings
    if dropped or "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        yield f"a sliding window of {window} tokens"


def write(subject: Subject, folder: Path, bits: int | None) -> None:
    """Writes the model into the (new, empty) folder. Raises EngineError with what the builder said last when it failed."""
    with files.scratch(folder) as scratch:
        given = scratch / "given"
        given.mkdir()
        if bits is None:
            safetensors.write(subject, given, torch.float32)
        else:
            assert subject.quantized is not None
            gptq.write(subject, given, next(iter(subject.quantized.formats.values())))
        build(given, folder, scratch / "cache", bits)


def build(given: Path, folder: Path, cache: Path, bits: int | None) -> None:
    """Runs the builder on a folder of safetensors."""
    command = [
        sys.executable, "-P", "-m", BUILDER, "-i", str(given), "-o", str(folder), "-c", str(cache),
        "-p", f"int{bits}" if bits else "fp32", "-e", "cuda" if "CUDAExecutionProvider" in providers() else "cpu",
    ]  # fmt: skip
    if bits:
        command += ["--extra_options", *QUANTIZED]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = children.run(command, env=environment)
    if done.returncode or not (folder / "model.onnx").is_file():
        last = (done.stderr.strip() or "no file was written").splitlines()[-1]
        raise EngineError(f"the ONNX builder failed: {last}", where=str(folder), hint='format = "safetensors"')


def providers() -> list[str]:
    """Where onnxruntime can run here."""
    import onnxruntime

    found: list[str] = onnxruntime.get_available_providers()
    return found
