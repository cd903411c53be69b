"""What a run began with, kept beside its checkpoints: they go with no other weights, data or settings."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import Any

from engine import files, strictjson
from engine.beforehand import prompt_steps
from engine.errors import EngineError, UsageError
from engine.profile import Profile
from engine.prompts.options import SelectPromptOptions
from engine.prompts.pool import read_pool
from engine.workspace import Workspace


def check(workspace: Workspace) -> None:
    """Writes down what the run begins with. Raises UsageError when it began with something else, and says with what."""
    file = workspace.run.checkpoints / "fingerprint.json"
    now: dict[str, Any] = {
        "profile": strictjson.defined(_flat(workspace.profile.model_dump(mode="json"))),
        "model": workspace.subject.fingerprint,
        "data": workspace.data_fingerprint(),
        "prompt pools": pools(workspace.profile),
    }
    if not file.is_file():
        files.write_text(file, strictjson.dumps(now, indent=2) + "\n")
        return
    began = json.loads(file.read_text(encoding="utf-8"))
    if changed := _changed(began["profile"], now["profile"]):
        message = f"the profile changed since this run began: {changed}"
        hint = "put that back into the run's profile.toml, or start a new run; the checkpoints belong to other settings"
        raise UsageError(message, where=str(workspace.run.path), hint=hint)
    pools_then = began.setdefault("prompt pools", now["prompt pools"])
    now["prompt pools"] = [there or then for there, then in zip(now["prompt pools"], pools_then, strict=True)]
    place = str(workspace.run.path)
    for part, where in {"model": workspace.profile.model.source, "data": place, "prompt pools": place}.items():
        if began[part] != now[part]:
            message = f"the {part} changed since this run began"
            raise UsageError(message, where=where, hint=f"start a new run; the checkpoints belong to the {part} before")


def pools(profile: Profile) -> list[str]:
    """A hash of the instructions in every pool file, in the order of the steps; "" for one that cannot be read: a step that has
    still to read it says so itself.
    """
    out = []
    for options in chain.from_iterable(map(prompt_steps, profile.step)):
        if isinstance(options, SelectPromptOptions) and options.pool:
            try:
                lines = read_pool(options.pool)
            except EngineError:
                lines = []
            out.append(hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest() if lines else "")
    return out


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """{"step.0.sparsity": 0.5, ...}: every value under its key as --set spells it."""
    if value and isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in _flat(v, f"{key}.{k}" if key else str(k)).items()}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The settings that differ, the first three spelled out; "" when none does."""
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    told = [f"{key} {_shown(before, key)} is now {_shown(after, key)}" for key in keys[:3]]
    more = [f"{len(keys) - 3} more"] if len(keys) > 3 else []
    return ", ".join(told + more)


def _shown(values: dict[str, Any], key: str) -> str:
    return "(not set)" if values.get(key) is None else strictjson.dumps(values[key])
