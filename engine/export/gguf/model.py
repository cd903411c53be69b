"""Llama-family models as GGUF files for llama.cpp (ggml/docs/gguf.md): tensors, hyperparameters, tokenizer.

Weights of the blocks are stored in the file's type, embeddings and head in Q8_0 beside quantized types, norms in float32.
llama.cpp rotates neighbouring dimensions of a head where transformers rotates its halves: rows of q and k are put in order.
"""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, UsageError
from engine.export import coded
from engine.export.format import ExportFormat, need_language_model
from engine.export.gguf import vocabulary
from engine.profile import ModelOptions
from engine.quantization.grid import Format, Indivisible
from engine.subject import DTYPES, Subject
from engine.weights import weights_hash

FILE = "model.gguf"
SCRIPT = Path(__file__).with_name("run_gguf.py")
FAMILY = ("llama", "mistral")
BITS = {"F16": 16.0, "Q8_0": 8.5, "Q4_0": 4.5, "Q4_1": 5.0}
"""of a weight, with its share of a block's scale"""
FLOATS = {"F16": torch.float16}


def gguf_format(kind: str) -> ExportFormat:
    """The export format that stores the blocks' weights in this type."""
    return ExportFormat(
        write=lambda subject, folder, dtype: write(subject, folder, kind),
        read=read,
        check=lambda subject, form: check(subject, form, kind),
        weights="*.gguf",
        runtime="llamacpp",
        tolerance=0.01 if kind in FLOATS else None,
        divergence=1e-3 if kind in FLOATS else None,
        typed=False,
        zeros=kind != "Q4_1",
        codes=kind not in FLOATS,
        largest=lambda name, weight, dtype: largest(name, weight, kind),
        inside=BITS[kind],
        outside=BITS[kind if kind in FLOATS else "Q8_0"],
        script=SCRIPT,
    )


def check(subject: Subject, form: Format | None, kind: str) -> None:
    """Raises UsageError for what the file cannot hold."""
    from engine.export.gguf.blocks import BLOCK, MATCHING

    need_language_model(subject, "gguf")
    module: Any = subject.module
    hint, odd = 'format = "safetensors"', oddities(module)
    if odd:
        raise UsageError(f"gguf holds plain Llama-family models, not {odd[0]}", where=subject.source, hint=hint)
    if len({tuple(p.shape for p in block.parameters()) for block in subject.blocks()}) > 1:
        raise UsageError("gguf is written for blocks of equal widths only", where=subject.source, hint=hint)
    vocabulary.check(subject, module.config.vocab_size)
    if kind in FLOATS:
        return
    if form not in (None, MATCHING[kind]):
        fits = MATCHING[kind]
        hint = f"bits = {fits.bits}, group = {fits.group}, symmetric = {str(fits.symmetric).lower()}"
        raise UsageError(f"{kind} would round once more what was quantized otherwise", where="step.format", hint=hint)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2 and parameter.shape[1] % BLOCK:
            message = f"{kind} has blocks of {BLOCK}, which do not divide the width {parameter.shape[1]}"
            raise Indivisible(message, where=name, hint='format = "gguf_f16"', size=BLOCK)


def oddities(module: Any) -> list[str]:
    """What keeps a model from being a plain one of the Llama family."""
    config = module.config
    out = [] if config.model_type in FAMILY else [str(config.model_type)]
    out += [name for name, _ in module.named_parameters() if name.endswith(".bias")]
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    out += [] if rope == "default" else [f"{rope} rotary embeddings"]
    activation = getattr(config, "hidden_act", "silu")
    out += [] if activation in ("silu", "swish") else [f"the activation {activation}"]
    window = getattr(config, "sliding_window", None)
    return out + ([f"a sliding window of {window} tokens"] if window else [])


def write(subject: Subject, folder: Path, kind: str) -> None:
    """Writes model.gguf, and the script that runs it, into the (new, empty) folder."""
    import gguf

    module: Any = subject.module
    config = module.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    writer = gguf.GGUFWriter(folder / FILE, "llama", use_temp_file=subject.stream is not None)
    add_hyperparameters(writer, subject, kind)
    vocabulary.add(writer, subject, config.vocab_size)
    for state in coded.states(subject):
        for name, tensor in state.items():
            add_tensor(writer, subject, name, tensor, f"{names.get_name(name.removesuffix('.weight'))}.weight", kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copyfile(SCRIPT, folder / SCRIPT.name)


def add_hyperparameters(writer: Any, subject: Subject, kind: str) -> None:
    import gguf

    module: Any = subject.module
    config = module.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(Path(subject.source).stem)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType["MOSTLY_" + kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tensor(writer: Any, subject: Subject, name: str, tensor: torch.Tensor, stored: str, kind: str) -> None:
    """One weight under its name in the file. Raises EngineError for numbers that float16 cannot hold."""
    import gguf

    from engine.export.gguf import blocks as ggufblocks

    if tensor.ndim == 1:
        writer.add_tensor(stored, tensor.float().cpu().numpy())
        return
    heads = heads_of(subject, name)
    if kind in FLOATS:
        half = ordered(tensor.cpu(), heads).to(FLOATS[kind])
        if not torch.isfinite(half).all():
            raise EngineError("the weights exceed float16", where=name, hint='format = "safetensors"')
        writer.add_tensor(stored, half.numpy())
        return
    stored_as = type_of(name, kind)
    codes = coded.codes_of(subject, name, tensor)
    plain = tensor.float().cpu()
    blocks = ggufblocks.rounded(plain.numpy(), stored_as) if codes is None else ggufblocks.coded(codes, kind)
    if not ggufblocks.finite(blocks, stored_as):
        message = f"the scales of {stored_as} are float16, which is too small for the weights"
        raise EngineError(message, where=name, hint='format = "safetensors"')
    blocks = ordered(torch.from_numpy(blocks), heads).numpy()
    writer.add_tensor(stored, blocks, raw_dtype=gguf.GGMLQuantizationType[stored_as])


def type_of(name: str, kind: str) -> str:
    """In which type a matrix is stored."""
    return kind if kind in FLOATS or ".layers." in name else "Q8_0"


def largest(name: str, weight: torch.Tensor, kind: str) -> float:
    """The largest magnitude that the file can hold of a weight."""
    from engine.export.gguf import blocks

    if weight.ndim == 1:
        return math.inf
    return torch.finfo(FLOATS[kind]).max if kind in FLOATS else blocks.largest(type_of(name, kind))


def heads_of(subject: Subject, name: str) -> int:
    """Into how many heads the rows of q or k fall; 0 for other weights."""
    module: Any = subject.module
    found = re.search(r"\.([qk])_proj\.weight$", name)
    if not found:
        return 0
    return int(module.config.num_attention_heads if found[1] == "q" else module.config.num_key_value_heads)


def ordered(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows [O, ...] of heads with the halves of each interleaved."""
    if not heads:
        return rows
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape).contiguous()


def read(options: ModelOptions, folder: Path) -> Subject:
    """The model as transformers reads the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place: dict[str, Any] = {"pretrained_model_name_or_path": folder, "gguf_file": FILE}
    module = AutoModelForCausalLM.from_pretrained(**place, dtype=DTYPES[options.dtype])
    module.to(torch.device(options.device)).eval().requires_grad_(False)
    return Subject(module, str(folder / FILE), weights_hash(module), AutoTokenizer.from_pretrained(**place))
