"""Loads the model under compression from where the profile says, and finds its blocks.

Everything downstream works on a `Subject`: a torch module with, for language models, a tokenizer, or, for other modules,
the features and labels they are measured on. No architecture is named here or below: blocks are the largest list of
modules, matrices are found by watching products (see calibration.py).
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from engine import allocator, files, inspection, memory, streaming
from engine.data.features import Features, load_features
from engine.errors import EngineError, Unavailable, UsageError
from engine.profile import ModelOptions
from engine.streaming import Streamed

BOOKKEEPING = {"transformers_version", "dtype", "architectures"}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Origin:
    """Where a structurally pruned model's blocks and hidden dimensions come from: indices in the dense model; None means
    all of them.
    """

    blocks: list[int] | None = None
    hidden: list[int] | None = None

    def after(self, earlier: Origin) -> Origin:
        """The origin in the dense model, when this one's indices are of a model that has `earlier` behind it."""
        return Origin(_through(self.blocks, earlier.blocks), _through(self.hidden, earlier.hidden))


def _through(later: list[int] | None, earlier: list[int] | None) -> list[int] | None:
    if later is None or earlier is None:
        return later if earlier is None else earlier
    return [earlier[index] for index in later]


@dataclass
class Subject:
    """A model and what is needed to run it. `fingerprint` identifies its weights before any change.

    `stream` is there when the blocks' weights stay on disk: they are in memory only while somebody holds them.
    """

    module: nn.Module
    source: str
    fingerprint: str
    tokenizer: Any | None = None
    features: Features | None = None
    origin: Origin = Origin()
    stream: Streamed | None = None

    @property
    def device(self) -> torch.device:
        return self.stream.device if self.stream is not None else next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @property
    def is_language_model(self) -> bool:
        return self.tokenizer is not None

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def bytes(self) -> int:
        """Bytes of the weights as the run holds them."""
        return sum(p.numel() * p.element_size() for p in self.module.parameters())

    def blocks(self) -> list[nn.Module]:
        """The decoder blocks: the modules of the largest ModuleList; other modules are one block as a whole."""
        if not self.is_language_model:
            return [self.module]
        blocks = streaming.largest_list(self.module)
        if not blocks:
            raise EngineError("the model has no list of blocks", where=self.source)
        return blocks

    def holding(self, block: int) -> AbstractContextManager[None]:
        """The block's weights are in memory inside."""
        return nullcontext() if self.stream is None else self.stream.holding(block)

    def rest(self) -> AbstractContextManager[None]:
        """What is no block (embeddings, final norm, head) is in memory inside."""
        return self.holding(streaming.REST)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter and buffer by name, tied ones once; of a streamed model one block after the other."""
        if self.stream is not None:
            yield from self.stream.tensors()
            return
        for name, parameter in self.module.named_parameters():
            yield name, parameter.data
        yield from self.module.named_buffers()

    def token_ids(self, text: str) -> torch.Tensor:
        """Token ids [tokens] of a whole text."""
        assert self.tokenizer is not None
        return torch.tensor(self.tokenizer(text, verbose=False).input_ids, dtype=torch.long)


def resolve(options: ModelOptions) -> ModelOptions:
    """`options` with "auto" replaced by what this machine has."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Unavailable("no CUDA device here", where="model.device", hint='set device = "auto" or "cpu"')
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


def check_finite(subject: Subject) -> None:
    """Raises Unavailable that names the first weight with a NaN or an infinity."""
    for _ in finite(subject.module.named_parameters(), subject.source):
        pass


def finite(tensors: Iterable[tuple[str, torch.Tensor]], source: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors, each looked at first. Raises Unavailable that names the first with a NaN or an infinity."""
    for name, tensor in tensors:
        if not is_finite(tensor):
            hint = "the checkpoint is damaged; fetch it again"
            raise Unavailable(f"weight {name} holds NaN or infinite values", where=source, hint=hint)
        yield name, tensor


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is a number; the extremes tell, without a tensor as large again."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return all(bool(torch.isfinite(extreme)) for extreme in tensor.aminmax())


def save_language_model(subject: Subject, folder: Path, dtype: torch.dtype) -> None:
    """Writes a folder that plain transformers loads."""
    model: Any = subject.module
    own = model.dtype
    with writing(folder):
        model.save_pretrained(folder, state_dict=converted(model.state_dict(), dtype) if dtype != own else None)
    try:
        model.config.dtype = dtype  # save_pretrained has put the dtype in memory there
        model.config.save_pretrained(folder)
    finally:
        model.config.dtype = own
    assert subject.tokenizer is not None
    subject.tokenizer.save_pretrained(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what safetensors raises when a disk is full into an EngineError."""
    try:
        yield
    except SafetensorError as error:
        raise EngineError(f"the weights cannot be written: {error}", where=str(path)) from error


def converted(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors in another number format; tied ones stay one tensor, so that they are stored once."""
    made: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for tensor in state.values():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in made:
            made[key] = tensor.to(dtype)
    return {name: made[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def _language_model(options: ModelOptions) -> Subject:
    path, hub = _place(options.source)
    return _from_pretrained(str(path), options, hub)


def _place(source: str) -> tuple[Path, bool]:
    """Where transformers finds the model: a folder here, or (True) a name on the hub."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if source == "demo":
        return _from_gguf(inspection.demo_model()), False
    if source.endswith(".gguf"):
        return _from_gguf(Path(source)), False
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
    tokenizer = _tokenizer(str(path), hub=False)
    try:
        stream = streaming.load(path, DTYPES[options.dtype], torch.device(options.device))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _unloadable(options.source, error, hub) from error
    _watchable(stream.module)
    digest = weights_hash(stream.module, tokenizer, finite(stream.tensors(), options.source))
    return Subject(stream.module, options.source, digest, tokenizer, stream=stream)


def _fetched(name: str, source: str) -> Path:
    """The local folder of a hub model, downloaded when it is not here."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except (OSError, ValueError) as error:
        raise _unloadable(source, error, hub=True) from error


def _watchable(module: Any) -> None:
    """Has experts computed one by one, so that their products can be watched."""
    if hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("eager")


def _from_pretrained(path: str, options: ModelOptions, hub: bool) -> Subject:
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(path, hub)
    try:
        module = AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[options.dtype], use_safetensors=True, local_files_only=not hub
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unloadable(options.source, error, hub) from error
    _watchable(module)
    return Subject(module, options.source, weights_hash(module, tokenizer), tokenizer)


def _tokenizer(path: str, hub: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=not hub)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "a model folder needs tokenizer.json (or its older forms) beside the weights"
        raise Unavailable("the tokenizer is missing or cannot be read", where=path, hint=hint) from error


def _unloadable(source: str, error: Exception, hub: bool) -> Unavailable:
    first = str(error).strip().partition("\n")[0]
    hint = "is the name right, and is the network there?" if hub else "compress-tui inspect shows what the files hold"
    return Unavailable(f"transformers cannot load the model: {first}", where=source, hint=hint)


def _from_gguf(file: Path) -> Path:
    """The GGUF's model as a normal folder, dequantized once and kept in the cache."""
    summary, folder = inspection.inspect(str(file)), dequantized(file)
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.write_folder(folder, lambda part: _dequantize(file, part, summary.architecture))
    return folder


def dequantized(file: Path) -> Path:
    """Where a GGUF's dequantized folder is kept, there or not."""
    digest = hashlib.sha256(f"{file.stat().st_size} {file.stat().st_mtime_ns} {file.resolve()}".encode()).hexdigest()
    return files.cache_folder() / "models" / f"{file.stem}-{digest[:12]}"


def _dequantize(file: Path, folder: Path, architecture: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
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


def _builtin(name: str, seed: int) -> Subject:
    from engine import builtin

    if name not in builtin.MODELS:
        raise UsageError(
            f"unknown built-in model {name!r}", where="model.source", hint=f"known: {', '.join(builtin.MODELS)}"
        )
    module, features = builtin.MODELS[name](seed)
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


def weights_hash(
    module: nn.Module, tokenizer: Any | None = None, tensors: Iterable[tuple[str, torch.Tensor]] | None = None
) -> str:
    """A hash of everything that decides what the model answers: weights, buffers, configuration, tokenizer.

    `tensors` gives parameters and buffers where they are not all in the module.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors or [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config = getattr(module, "config", None)
    if config is not None:
        settings = {k: v for k, v in config.to_dict().items() if k not in BOOKKEEPING and not k.startswith("_")}
        digest.update(repr(sorted(settings.items(), key=str)).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update(backend.to_str().encode() if backend else b"")
    return digest.hexdigest()


def go_offline(source: str, texts: list[str]) -> None:
    """Keeps the hub libraries off the network unless the profile names the hub."""
    local = source in ("demo",) or source.startswith(("/", "builtin:", "python:")) or source.endswith(".gguf")
    if local and not any(text.startswith("hub:") for text in texts):
        os.environ["HF_HUB_OFFLINE"] = "1"
