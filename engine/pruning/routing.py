"""Finds a model's expert layers and measures, on calibration data, what each expert contributes. It changes nothing.

An expert layer is a module that owns 3-D parameters (one slice an expert) and is called with the hidden states, the indices of
the chosen experts and their gates; its router may do with its logits what it likes.

Shapes: T tokens, K experts a token, E experts, H hidden.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from engine.calibration import Walk
from engine.subject import Subject


@dataclass(frozen=True)
class Layer:
    """The experts of one block: `experts` in all, `chosen` of them for a token."""

    name: str
    block: int
    module: nn.Module
    experts: int
    chosen: int


@dataclass
class Activity:
    """Per expert [E]: the tokens it met and the sum of gate(x) * ||f(x)|| over them."""

    gated: torch.Tensor
    tokens: torch.Tensor
    seconds: float = 0.0

    @classmethod
    def none(cls, experts: int) -> Activity:
        return cls(torch.zeros(experts, dtype=torch.float64), torch.zeros(experts, dtype=torch.float64))

    @property
    def saliency(self) -> torch.Tensor:
        """REAP (Lasby et al. 2025): the mean over the tokens routed to an expert; 0 where there are none."""
        return self.gated / self.tokens.clamp_min(1)


@dataclass(frozen=True)
class Call:
    """How an expert layer is called: which arguments are the chosen experts and which their gates, both [T, K]."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    index: int | str
    gates: int | str

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """None for a call that does not look so: an integer tensor [T, K] and a floating one of the same shape."""
        named: dict[int | str, Any] = dict([*enumerate(args), *kwargs.items()])
        tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor) and value.ndim == 2}
        whole = [key for key, value in tensors.items() if value.dtype in (torch.int64, torch.int32)]
        if len(whole) != 1:
            return None
        shape = tensors[whole[0]].shape
        gates = [key for key, v in tensors.items() if v.is_floating_point() and v.shape == shape]
        return cls(args, kwargs, whole[0], gates[-1]) if gates else None

    def get(self, key: int | str) -> torch.Tensor:
        found: torch.Tensor = self.args[key] if isinstance(key, int) else self.kwargs[key]
        return found

    def outputs(self, module: nn.Module, place: int) -> torch.Tensor:
        """f(x) [T, H] of every token's expert at that place of the K, with a gate of one."""
        index_TK = self.get(self.index)[:, place : place + 1]
        changed = {self.index: index_TK, self.gates: torch.ones_like(self.get(self.gates)[:, place : place + 1])}
        args = tuple(changed.get(number, value) for number, value in enumerate(self.args))
        kwargs = {name: changed.get(name, value) for name, value in self.kwargs.items()}
        out: torch.Tensor = module.forward(*args, **kwargs)
        return out.reshape(len(index_TK), -1)


def find(subject: Subject, few: torch.Tensor) -> list[Layer]:
    """The model's expert layers, in the order of its blocks; `few` are token ids [1, T] to call it with."""
    blocks = subject.blocks()
    names = {module: name for name, module in subject.module.named_modules()}
    owners = {m: i for i, block in enumerate(blocks) for m in block.modules() if _stacked(m)}
    calls: dict[nn.Module, Call] = {}

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Call.of(args, kwargs)
        if call is not None:
            calls[module] = call

    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in owners]
    try:
        with torch.no_grad():
            subject.module(input_ids=few.to(subject.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Layer(names[m], owners[m], m, _stacked(m), call.get(call.index).shape[1])
        for m, call in sorted(calls.items(), key=lambda item: owners[item[0]])
    ]


def _stacked(module: nn.Module) -> int:
    """How many slices the module's own 3-D parameters have; 0 without any or when they disagree."""
    sizes = {len(p) for p in module.parameters(recurse=False) if p.ndim == 3}
    return sizes.pop() if len(sizes) == 1 else 0


@dataclass
class Watch:
    """One pass over the calibration data that notes the activity of every expert, layer after layer."""

    walk: Walk
    layers: list[Layer]
    activity: dict[str, Activity] = field(default_factory=dict)

    def run(self) -> Iterator[int]:
        """Yields each block's index when the activity in it is known."""
        with self.walk.context():
            hidden, calls = self.walk.enter()
        for index in range(self.walk.blocks()):
            began = time.perf_counter()
            mine = [layer for layer in self.layers if layer.block == index]
            with self._watching(mine), self.walk.context():
                hidden = self.walk.forward(index, calls[index], hidden, discard=True)
            for layer in mine:
                self.activity[layer.name].seconds = time.perf_counter() - began
            yield index

    @contextmanager
    def _watching(self, layers: list[Layer]) -> Iterator[None]:
        hooks = []
        for layer in layers:
            activity = self.activity[layer.name] = Activity.none(layer.experts)
            hooks.append(layer.module.register_forward_pre_hook(_noting(layer, activity), with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _noting(layer: Layer, activity: Activity) -> Any:
    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Call.of(args, kwargs)
        assert call is not None
        for place in range(layer.chosen):
            norm_T = torch.linalg.vector_norm(call.outputs(module, place).float(), dim=1)
            gate_T = call.get(call.gates)[:, place].float()
            # a product instead of a scatter: additions in an order that does not change from run to run
            hit_TE = nn.functional.one_hot(call.get(call.index)[:, place].long(), layer.experts).float()
            with torch.autocast(norm_T.device.type, enabled=False):
                activity.gated += ((gate_T * norm_T) @ hit_TE).cpu().double()
            activity.tokens += hit_TE.sum(0).cpu().double()

    return note
