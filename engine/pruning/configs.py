"""Finds the configuration of a smaller model: which keys have to change is not known by name, it is tried on empty models.

A key is a candidate when its value is the number that changes and when changing it alters the shapes of the model; the
smallest set of candidates that gives every parameter its expected shape is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

Shapes = dict[str, tuple[int, ...]]
Changes = dict[str, Any]
MOST_KEYS = 3


def changed(config: Any, changes: Changes) -> Any:
    """The configuration with some keys changed, checked as when it is read from a file. Raises what transformers raises."""
    made = type(config).from_dict({**config.to_dict(), **changes})
    made.name_or_path = config.name_or_path
    return made


def empty(config: Any) -> Any:
    """The model without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(config)


def shapes_of(module: Any) -> Shapes:
    """{name: shape} of all parameters, tied ones under each of their names."""
    return {name: tuple(p.shape) for name, p in module.named_parameters(remove_duplicate=False)}


def shapes_with(config: Any, changes: Changes) -> Shapes | None:
    """The shapes of a model with these keys changed; None when its configuration does not allow them."""
    try:
        return shapes_of(empty(changed(config, changes)))
    except (StrictDataclassError, ValueError, TypeError, RuntimeError, ZeroDivisionError):
        return None


def candidates(config: Any, counts: Mapping[int, int]) -> Changes:
    """Keys whose value is one of the counts {old: new} and that decide shapes. Keys without a value stand for a default."""
    values = config.to_dict()
    now = shapes_with(config, {})
    found: Changes = {}
    for key, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool) and value in counts:
            found[key] = counts[value]
    unset = {key: new for key, value in vars(config).items() if value is None for new in counts.values()}
    with_value = {key: new for key, new in found.items() if shapes_with(config, {key: new}) != now}
    return with_value or {key: new for key, new in unset.items() if shapes_with(config, {key: new}) not in (now, None)}


def fitting(
    config: Any, counts: Mapping[int, int], accept: Callable[[Shapes], bool], fixed: Iterable[Changes] = ({},)
) -> Changes | None:
    """The fewest keys that turn the configuration into one of a model with acceptable shapes, tried with each of `fixed`
    besides; None when there are none.
    """
    keys = candidates(config, counts)
    for besides in fixed:
        free = [key for key in keys if key not in besides]
        for size in range(1, min(MOST_KEYS, len(free)) + 1):
            for names in combinations(free, size):
                changes = {name: keys[name] for name in names} | besides
                shapes = shapes_with(config, changes)
                if shapes is not None and accept(shapes):
                    return changes
    return None
