"""Loads the sparse weights beside this script; needs torch and safetensors only. `state = load("model.safetensors")`

name#mask: which weights are kept, a bit each; name#kept: their values, or name#codes: bit k of their codes in row k, with
name#scale and name#zero a group of columns: weight = (code - zero) * scale. Every other tensor is stored as it is.
"""

import torch
from safetensors import safe_open


def bits(packed: torch.Tensor, count: int) -> torch.Tensor:
    return (packed[..., None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(-2)[..., :count]


def load(*files: str) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            stored |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    state = {name: tensor for name, tensor in stored.items() if "#" not in name}
    for name in {name.partition("#")[0] for name in stored if "#" in name}:
        shape, scale = stored[f"{name}#shape"].tolist(), stored.get(f"{name}#scale")
        count = torch.Size(shape).numel()
        mask = bits(stored[f"{name}#mask"], count).bool() if f"{name}#mask" in stored else torch.ones(count).bool()
        if scale is None:
            kept = stored[f"{name}#kept"]
            state[name] = torch.zeros(count, dtype=kept.dtype).masked_scatter_(mask, kept).reshape(shape)
            continue
        planes = bits(stored[f"{name}#codes"], int(mask.sum())).int()
        codes = (planes << torch.arange(len(planes))[:, None]).sum(0).float()
        codes = torch.zeros(count).masked_scatter_(mask, codes).reshape(*scale.shape, -1)
        values = (codes - stored[f"{name}#zero"][..., None]) * scale.float()[..., None]
        state[name] = values.reshape(shape) * mask.reshape(shape)
    return state
