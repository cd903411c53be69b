"""What is known of a model from its headers alone: its tensors as a list and as a tree, its configuration, its sizes.

Says nothing of where headers come from: see `inspection` and `hub`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

DEEPEST_NAME = 32
REMOTE = "hub:"
MEMORY_BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
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
    """A model's headers. `config` in transformers' words (GGUF's sizes too); `metadata` as the files carry it; the hub's `name`
    of a model that was asked for by it.
    """

    path: str
    format: str
    architecture: str
    tensors: tuple[TensorInfo, ...]
    config: dict[str, Any]
    metadata: dict[str, Any]
    name: str = ""

    @property
    def title(self) -> str:
        """What people call it: the hub's name, or the last part of its path."""
        return self.name or Path(self.path).name

    @property
    def remote(self) -> bool:
        """Whether its weights are on the hub and not here."""
        return self.path.startswith(REMOTE)

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


def _node(name: str, tree: dict[str | None, Any]) -> Node:
    """The tree below one name; the key None holds the tensor of exactly this name."""
    children = {part: _node(part, below) for part, below in tree.items() if part is not None}
    return Node(name, children, tree.get(None))


def _size(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these keys that holds a positive number."""
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def architecture(config: dict[str, Any]) -> str:
    """The name of a configuration's architecture."""
    match config:
        case {"architectures": [str(name), *_]} | {"model_type": str(name)}:
            return name
    return "unknown"
