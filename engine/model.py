"""Loads the model under compression from where the profile says: the demo package, a folder, a GGUF file, the hub, code."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import allocator, gguf_folder, inspection, memory, streaming
from engine.data.features import load_features
from engine.errors import Unavailable, UsageError, naming
from engine.hub import FETCHED, LEFT
from engine.profile import ModelOptions
from engine.registry import BUILTIN, check_builtin, resolved
from engine.subject import DTYPES, Subject
from engine.weights import check_finite, finite_weights, weights_hash


def resolve(options: ModelOptions) -> ModelOptions:
    """`options` with "auto" replaced by what this machine has."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Unavailable("no CUDA device here", where="model.device", hint='set device = "auto" or "cpu"')
    if device == "mps" and not torch.backends.mps.is_available():
        raise Unavailable("no MPS device here", where="model.device", hint='set device = "auto" or "cpu"')
    dtype = options.dtype
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    options = options.model_copy(update={"device": device, "dtype": dtype})
    return options.model_copy(update={"memory": memory_mode(options)})


def memory_mode(options: ModelOptions) -> str:
    """Whether the weights of a resolved model stay in memory: only folders and GGUF files are ever streamed unasked."""
    if options.memory != "auto":
        return options.memory
    if options.source != "demo" and not Path(options.source).exists():
        return "resident"
    weights = inspection.inspect(options.source).parameters * DTYPES[options.dtype].itemsize
    return "resident" if memory.fits(weights, torch.device(options.device)) else "stream"


def load(options: ModelOptions, *, seed: int = 0, allow_code: bool = False) -> Subject:
    """The model of a resolved profile, in evaluation mode. Raises Unavailable or UsageError with the next thing to try."""
    scheme, _, rest = options.source.partition(":")
    if options.memory == "stream":
        return _streamed(options)
    if scheme == "builtin":
        subject = _builtin(rest, seed)
    elif scheme == "python":
        subject = _from_code(rest, allow_code)
    else:
        subject = _language_model(options)
    if not subject.is_language_model:  # transformers has set the dtype, and keeps some buffers in float32 on purpose
        subject.module.to(dtype=DTYPES[options.dtype])
    subject.module.to(device=torch.device(options.device)).eval().requires_grad_(False)
    check_finite(subject)
    return subject


def reload(options: ModelOptions, folder: Path) -> Subject:
    """A model that the run has exported, loaded as any user would; options.dtype is what it is stored in."""
    return load(options.model_copy(update={"source": str(folder)}))


def with_features(subject: Subject, source: str, label: str, normalize: bool) -> Subject:
    """The subject measured on a file's features; "builtin" keeps its own."""
    if source == "builtin":
        if subject.features is None:
            raise UsageError(
                "this model brings no data", where="calibration.source", hint='name a "file:..." of features'
            )
        return subject
    return replace(subject, features=load_features(source, label=label, normalize=normalize))


def _language_model(options: ModelOptions) -> Subject:
    path, hub = _place(options.source)
    return _from_pretrained(str(path), options, hub)


def _place(source: str) -> tuple[Path, bool]:
    """Where transformers finds the model: a folder here, or (True) a name on the hub."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if source == "demo":
        return gguf_folder.dequantized(inspection.demo_model()), False
    if source.endswith(".gguf"):
        return gguf_folder.dequantized(Path(source)), False
    if source.startswith("/") or Path(source).is_dir():
        inspection.check_folder(source)
        return Path(source), False
    return Path(source.removeprefix("hub:")), True


def _streamed(options: ModelOptions) -> Subject:
    """The model of a folder with its blocks left on disk."""
    if options.source.startswith(("builtin:", "python:")):
        message = "only language models in files can be read block by block"
        raise UsageError(message, where="model.memory", hint='model.memory = "resident"')
    allocator.return_freed_memory()
    path, hub = _place(options.source)
    if hub:
        path = _fetched(str(path), options.source)
    words = tokenizer(str(path))
    try:
        stream = streaming.load(path, DTYPES[options.dtype], torch.device(options.device))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _unloadable(options.source, error, hub) from error
    watchable(stream.module)
    digest = weights_hash(stream.module, words, finite_weights(stream.tensors(), stream.module, options.source))
    return Subject(stream.module, options.source, digest, words, stream=stream)


def _fetched(name: str, source: str) -> Path:
    """The local folder of a hub model, downloaded when it is not here."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED, ignore_patterns=LEFT))
    except (OSError, ValueError) as error:
        raise _unloadable(source, error, hub=True) from error


def watchable(module: Any) -> None:
    """Has experts computed one by one, so that their products can be watched."""
    if hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("eager")


def _from_pretrained(path: str, options: ModelOptions, hub: bool) -> Subject:
    from transformers import AutoModelForCausalLM

    words = tokenizer(path, hub)
    try:
        module, found = AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[options.dtype], use_safetensors=True, local_files_only=not hub, output_loading_info=True,
            trust_remote_code=False,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unloadable(options.source, error, hub) from error
    check_whole(found["missing_keys"], options.source)
    watchable(module)
    return Subject(module, options.source, weights_hash(module, words), words)


def tokenizer(path: str, hub: bool = False) -> Any:
    """The tokenizer of a folder, or of a name on the hub. Raises Unavailable."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=not hub, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if "trust_remote_code" in str(error):
            raise _unloadable(path, error, hub) from error
        hint = "a model folder needs tokenizer.json (or its older forms) beside the weights"
        raise Unavailable("the tokenizer is missing or cannot be read", where=path, hint=hint) from error


def check_whole(missing: Iterable[str], source: str) -> None:
    """Raises Unavailable for weights that the files do not have, which would be random numbers."""
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        hint = (
            "is it a causal language model, and is the download whole? compress-tui inspect shows what the files hold"
        )
        raise Unavailable(f"the files lack the weight {names[0]}{more}", where=source, hint=hint)


def _unloadable(source: str, error: Exception, hub: bool) -> Unavailable:
    first = str(error).strip().partition("\n")[0]
    if "trust_remote_code" in str(error):
        hint = "only models that transformers knows are loaded from files, or your own by python:MODULE:FACTORY"
        return Unavailable("the model brings code of its own, which is not run", where=source, hint=hint)
    hint = "is the name right, and is the network there?" if hub else "compress-tui inspect shows what the files hold"
    return Unavailable(f"transformers cannot load the model: {first}", where=source, hint=hint)


def _builtin(name: str, seed: int) -> Subject:
    with naming("model.source"):
        check_builtin(name)
    module, features = resolved(BUILTIN[name])(seed)
    return Subject(module, f"builtin:{name}", f"builtin:{name}:{seed}", features=features)


def _from_code(reference: str, allow_code: bool) -> Subject:
    if not allow_code:
        hint = "add --allow-code if you trust it"
        raise UsageError("this profile runs Python code of its own", where="model.source", hint=hint)
    package, _, factory = reference.partition(":")
    try:
        made = getattr(importlib.import_module(package), factory)()
    except (ImportError, AttributeError) as error:
        hint = "python:package.module:factory, importable from here (PYTHONPATH)"
        raise Unavailable(str(error), where=f"python:{reference}", hint=hint) from error
    module, features = made if isinstance(made, tuple) else (made, None)
    if not isinstance(module, nn.Module):
        raise Unavailable("the factory must return a torch module, or (module, Features)", where=f"python:{reference}")
    return Subject(module, f"python:{reference}", weights_hash(module), features=features)


def go_offline(models: list[str], texts: list[str]) -> None:
    """Keeps the hub libraries off the network unless one of a profile's sources names the hub."""
    if all(map(is_local, models)) and not any(text.startswith("hub:") for text in texts):
        os.environ["HF_HUB_OFFLINE"] = "1"


def is_local(source: str) -> bool:
    """Whether a model's source is none of the hub's names."""
    return source == "demo" or source.startswith(("/", "builtin:", "python:")) or source.endswith(".gguf")
