"""The model of a GGUF file as a transformers folder."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from engine import files, inspection
from engine.errors import Unavailable


def dequantized(file: Path) -> Path:
    """The GGUF's model as a normal folder, dequantized once and kept in the cache."""
    summary, folder = inspection.inspect(str(file)), kept_in(file)
    whole = (folder / "config.json").is_file
    if not whole():
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.remove_abandoned(folder.parent)
        files.write_folder(folder, lambda part: _dequantize(file, part, summary.architecture), spare=whole)
    return folder


def kept_in(file: Path) -> Path:
    """Where a GGUF's dequantized folder is kept, there or not."""
    digest = hashlib.sha256(f"{file.stat().st_size} {file.stat().st_mtime_ns} {file.resolve()}".encode()).hexdigest()
    return files.cache_folder() / "models" / f"{file.stem}-{digest[:12]}"


@contextmanager
def _remembering(module: Any, *names: str) -> Iterator[None]:
    """What these functions of a library give is kept meanwhile. transformers reads a GGUF's words one by one for each of
    config, tokenizer and weights, and makes its table of names for every block: half of the time that a small model takes.
    """
    plain = {name: getattr(module, name) for name in names}
    try:
        for name, function in plain.items():
            setattr(module, name, lru_cache(function))
        yield
    finally:
        for name, function in plain.items():
            setattr(module, name, function)


def _dequantize(file: Path, folder: Path, architecture: str) -> None:
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        with _remembering(gguf, "GGUFReader", "get_tensor_name_map"):
            tokenizer = AutoTokenizer.from_pretrained(**place)
            loaded = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    except (ValueError, KeyError, OSError) as error:
        hint = "convert it to a transformers folder first"
        message = f"GGUF architecture {architecture!r} cannot be loaded: {error}"
        raise Unavailable(message, where=str(file), hint=hint) from error
    config = loaded.config
    del config.quantization_config
    # transformers refuses to save a model that came from GGUF; one made anew from its config saves normally
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del loaded, model
    gc.collect()
