"""What a run began with, kept beside its checkpoints: they go with no other weights, data or settings."""

from __future__ import annotations

import json
from typing import Any

from engine import files, strictjson
from engine.errors import UsageError
from engine.workspace import Workspace


def check(workspace: Workspace) -> None:
    """Writes down what the run begins with. Raises UsageError when it began with something else, and says with what."""
    file = workspace.run.checkpoints / "fingerprint.json"
    now: dict[str, Any] = {
        "profile": strictjson.defined(_flat(workspace.profile.model_dump(mode="json"))),
        "model": workspace.subject.fingerprint,
        "data": workspace.data_fingerprint(),
    }
    if not file.is_file():
        files.write_text(file, strictjson.dumps(now, indent=2) + "\n")
        return
    began = json.loads(file.read_text(encoding="utf-8"))
    if changed := _changed(began["profile"], now["profile"]):
        message = f"the profile changed since this run began: {changed}"
        hint = "put that back into the run's profile.toml, or start a new run; the checkpoints belong to other settings"
        raise UsageError(message, where=str(workspace.run.path), hint=hint)
    for part, where in (("model", workspace.profile.model.source), ("data", str(workspace.run.path))):
        if began[part] != now[part]:
            message = f"the {part} changed since this run began"
            raise UsageError(message, where=where, hint=f"start a new run; the checkpoints belong to the {part} before")


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
