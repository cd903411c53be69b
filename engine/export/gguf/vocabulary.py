"""A byte-level BPE tokenizer as GGUF metadata (ggml/docs/gguf.md, "Tokenizer").

`tokenizer.ggml.pre` names how llama.cpp splits a text before it merges; the names are those of its llama-vocab.cpp. A model
that came from a GGUF file keeps that file's name, as transformers drops part of the splitting when it reads one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import inspection
from engine.errors import UsageError
from engine.gguf_header import read_header
from engine.subject import Subject

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {CONTRACTIONS + r"\p{N}{1,3}" + REST: "llama-bpe", CONTRACTIONS + r"\p{N}" + REST: "qwen2"}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def check(subject: Subject, size: int) -> None:
    """Raises UsageError for a tokenizer that this file cannot describe beside embeddings of so many tokens."""
    pre(subject)
    tokenizer: Any = subject.tokenizer
    last = max(tokenizer.get_vocab().values())
    if last >= size:
        message = (
            f"the tokenizer has tokens up to number {last}, and the model embeddings of {size}; gguf has one of each"
        )
        hint = 'model.resize_token_embeddings in transformers, or format = "safetensors"'
        raise UsageError(message, where=subject.source, hint=hint)


def add(writer: Any, subject: Subject, size: int) -> None:
    """Tokens [size] with their types, merges, special tokens and the chat template."""
    tokenizer: Any = subject.tokenizer
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    names: list[str] = [f"[PAD{index}]" for index in range(size)]
    kinds = [UNUSED] * size
    for token, index in backend["model"]["vocab"].items():
        names[index], kinds[index] = token, NORMAL
    for added in backend["added_tokens"]:
        names[added["id"]], kinds[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre(subject))
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]]
    )
    for kind in ("bos", "eos", "unk", "pad"):
        index = getattr(tokenizer, f"{kind}_token_id")
        if index is not None:
            getattr(writer, f"add_{kind}_token_id")(index)
    first = tokenizer("a").input_ids[:1]
    writer.add_add_bos_token(bool(first) and first[0] == tokenizer.bos_token_id)
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def pre(subject: Subject) -> str:
    """llama.cpp's name for how texts are split. Raises UsageError for a way that it is not known to have."""
    tokenizer: Any = subject.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend else {"model": {"type": None}}
    file = inspection.demo_model() if subject.source == "demo" else Path(subject.source)
    if described["model"]["type"] == "BPE" and file.suffix == ".gguf":
        named = read_header(file).metadata.get("tokenizer.ggml.pre")
        if named:
            return str(named)
    name = _by_structure(described) if described["model"]["type"] == "BPE" else None
    if name is None:
        message = (
            "gguf holds byte-level BPE tokenizers that split as GPT-2, SmolLM, Llama 3 or Qwen 2 do; this one does not"
        )
        raise UsageError(message, where="step.format", hint='format = "safetensors"')
    return name


def _by_structure(described: dict[str, Any]) -> str | None:
    found = described.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found])
    if [step.get("type") for step in steps] == ["ByteLevel"] and steps[0].get("use_regex"):
        return "gpt-2"
    if [step.get("type") for step in steps] == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if [step.get("type") for step in steps] == ["Split", "ByteLevel"]:
        return SPLITS.get(steps[0]["pattern"].get("Regex", ""))
    return None
