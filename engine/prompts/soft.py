"""Virtual tokens that stand ahead of a prompt's text: learned embeddings, or learned keys and values of every layer.

Both are one matrix with a row for each virtual token, laid out as PEFT keeps it, and both are used in one way: as the
key/value cache that a text goes on from. Knows nothing of training or of tasks.

Shapes: N virtual tokens, W numbers of each, L layers, H key/value heads, D numbers of a head.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from engine import files
from engine.errors import Unavailable, UsageError
from engine.prompts.options import Form
from engine.subject import Subject
from engine.weights import writing

CONFIG, WEIGHTS, KEY = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"
PEFT_TYPES: dict[Form, str] = {"soft": "PROMPT_TUNING", "prefix": "PREFIX_TUNING"}


@dataclass(frozen=True, eq=False)
class Soft:
    """`weight_NW` in float32: embeddings (W is the hidden size), or keys and values [N, 2 L H D], of every layer the keys
    first.
    """

    form: Form
    weight_NW: torch.Tensor
    layers: int = 0
    heads: int = 0

    @property
    def tokens(self) -> int:
        """How many positions it takes."""
        return len(self.weight_NW)

    @cached_property
    def digest(self) -> str:
        """Equal for the same numbers in the same form."""
        numbers = self.weight_NW.detach().cpu().contiguous().numpy()
        about = repr((self.form, numbers.shape, self.layers, self.heads)).encode()
        return hashlib.blake2b(about + numbers.tobytes(), digest_size=16).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Soft) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def past(self, subject: Subject) -> Any:
        """The key/value cache of one sequence that has these positions behind it; gradients go through to the weight."""
        from transformers import DynamicCache

        module: Any = subject.module
        if self.form == "soft":
            embeddings = self.weight_NW.to(subject.device, subject.dtype)
            made = module(inputs_embeds=embeddings[None], use_cache=True, logits_to_keep=1)
            return getattr(made, "past_key_values", None)
        weight_NW = self.weight_NW.to(subject.device, computing(subject))
        parts = weight_NW.view(self.tokens, 2 * self.layers, self.heads, -1).permute(1, 2, 0, 3)[:, None]
        cache = DynamicCache(config=module.config)
        for layer in range(self.layers):
            cache.update(parts[2 * layer], parts[2 * layer + 1], layer)
        return cache

    def fits(self, subject: Subject) -> bool:
        """Whether the model's embeddings, or its keys and values, are of these sizes."""
        try:
            other = beginning(self.form, subject, [0])
        except UsageError:
            return False
        mine = (self.weight_NW.shape[1], self.layers, self.heads)
        return mine == (other.weight_NW.shape[1], other.layers, other.heads)

    def save(self, folder: Path, subject: Subject) -> None:
        """Writes the folder that `peft.PeftModel.from_pretrained(model, folder)` loads."""
        from safetensors.torch import save_file

        module: Any = subject.module
        text = module.config.get_text_config()
        config = {
            "peft_type": PEFT_TYPES[self.form], "task_type": "CAUSAL_LM", "inference_mode": True,
            "base_model_name_or_path": None,  # they belong to the weights as they are now, which no name stands for yet
            "num_virtual_tokens": self.tokens,
            "num_transformer_submodules": 1, "num_layers": self.layers or text.num_hidden_layers,
            "num_attention_heads": self.heads or text.num_attention_heads,
            "token_dim": self.weight_NW.shape[1] // (2 * self.layers or 1),
        }  # fmt: skip
        config |= {"prefix_projection": False} if self.form == "prefix" else {"prompt_tuning_init": "RANDOM"}
        files.write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        stored = {KEY: self.weight_NW.detach().cpu().contiguous()}
        with writing(folder / WEIGHTS):
            files.write_with(folder / WEIGHTS, lambda part: save_file(stored, part))


def load(folder: Path) -> Soft | None:
    """What `save` left in a folder, None where there is none. Raises Unavailable for files that are no such thing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / CONFIG).is_file():
        return None
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        form = next(form for form, name in PEFT_TYPES.items() if name == config["peft_type"])
        weight_NW = load_file(folder / WEIGHTS)[KEY].float()
    except (OSError, ValueError, KeyError, StopIteration, SafetensorError) as error:
        raise Unavailable(f"not a soft prompt: {str(error) or 'another kind of adapter'}", where=str(folder)) from error
    if form == "soft":
        return Soft(form, weight_NW)
    return Soft(form, weight_NW, config["num_layers"], config["num_attention_heads"])


@torch.no_grad()
def beginning(form: Form, subject: Subject, ids: list[int]) -> Soft:
    """The virtual tokens that answer exactly as these real ones do. Raises UsageError where the keys and values cannot be
    kept in one matrix.
    """
    module: Any = subject.module
    ids_1N = torch.tensor([ids], device=subject.device)
    if form == "soft":
        return Soft(form, module.get_input_embeddings()(ids_1N)[0].float().cpu().clone())
    past = module(ids_1N, use_cache=True, logits_to_keep=1).past_key_values
    parts = [part for layer in getattr(past, "layers", []) for part in _keys_values(layer)]
    shapes = {part.shape if part is not None else None for part in parts}
    if len(shapes) != 1 or parts[0] is None or parts[0].shape[-2] != len(ids):
        message = "a prefix needs keys and values of one shape in all layers, as long as the prefix"
        raise UsageError(message, where="step.form", hint='form = "soft", or fewer tokens')
    parts_MHND = torch.cat(parts)  # M is 2 L
    weight_NW = parts_MHND.permute(2, 0, 1, 3).reshape(len(ids), -1).float().cpu().contiguous()
    return Soft(form, weight_NW, len(parts) // 2, parts_MHND.shape[1])


def _keys_values(layer: Any) -> tuple[Any, Any]:
    """None for what a layer does not have: a recurrent one keeps a state instead."""
    return getattr(layer, "keys", None), getattr(layer, "values", None)


def computing(subject: Subject) -> torch.dtype:
    """What the model's products come out in, autocast or not."""
    device = subject.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else subject.dtype
