"""The models that were opened last, and what was typed on the command line: small lists in the state folder."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from engine import files

MODELS, COMMANDS = "models", "commands"
MOST = {MODELS: 10, COMMANDS: 500}


def read(name: str) -> list[str]:
    """The entries of a list, the newest last; none where there is no list, or none that can be read."""
    try:
        found = json.loads((files.state_folder() / f"recent-{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in found if isinstance(entry, str)] if isinstance(found, list) else []


def add(name: str, entry: str) -> None:
    """Makes `entry` the newest of a list, a model's path absolute; a folder that cannot be written keeps it as it was."""
    path = Path(entry).expanduser()
    if name == MODELS and entry != "demo" and path.exists():
        entry = str(path.absolute())
    kept = [*(known for known in read(name) if known != entry), entry][-MOST[name] :]
    with suppress(OSError):
        files.state_folder().mkdir(parents=True, exist_ok=True)
        files.write_text(files.state_folder() / f"recent-{name}.json", json.dumps(kept, ensure_ascii=False))
