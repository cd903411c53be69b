"""The app's own settings, from config.toml in the user's configuration folder: theme, mouse, keys.

theme = "compress-light"
mouse = false
[keys]
cancel = "X"            # an action of `?`, and the key or keys that do it
copy = ["y", "ctrl+y"]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from engine import files
from engine.errors import UsageError, did_you_mean
from tui import actions
from tui import keys as written
from tui.widgets import themes

THEMES = tuple(theme.name for theme in themes.THEMES)
"""the themes that may be chosen; the first one is the default"""


@dataclass(frozen=True)
class Settings:
    """`keys` are {action: keys as Textual names them, with commas}."""

    theme: str = THEMES[0]
    mouse: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)


def file() -> Path:
    """Where the settings are read from: $COMPRESS_TUI_CONFIG, else config.toml in the user's configuration folder."""
    override = os.environ.get("COMPRESS_TUI_CONFIG")
    if override:
        return Path(override)
    import platformdirs

    return platformdirs.user_config_path(files.APP) / "config.toml"


def load() -> Settings:
    """The settings, the defaults where there is no file. Raises UsageError on what cannot be meant."""
    path = file()
    try:
        raw = tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the settings: {error}", where=str(path)) from error
    known = ("theme", "mouse", "keys")
    for name in raw:
        _known(name, known, "setting", path)
    theme, mouse, keys = raw.get("theme", THEMES[0]), raw.get("mouse", True), raw.get("keys", {})
    _known(theme, THEMES, "theme", path)
    if not isinstance(mouse, bool) or not isinstance(keys, dict):
        raise UsageError("mouse is true or false, [keys] is a table", where=str(path))
    return Settings(theme, mouse, _keys(keys, path))


def store(name: str, value: str) -> Path:
    """Puts one setting into the file, with all else in it as it was. Returns which file. Raises UsageError."""
    import tomlkit

    path = file().resolve()  # a link to a file that is kept elsewhere stays one
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        document[name] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, tomlkit.dumps(document))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        hint = f"{name} holds until the app is left"
        raise UsageError(f"cannot keep the settings: {why}", where=str(path), hint=hint) from error
    return path


def _known(name: Any, names: tuple[str, ...], kind: str, path: Path) -> None:
    if name not in names:
        raise UsageError(f"{name!r} is no {kind}", where=str(path), hint=did_you_mean(str(name), names))


def _keys(raw: dict[str, Any], path: Path) -> dict[str, str]:
    """The remapped keys by action. Raises UsageError for an unknown action and for a key with two meanings."""
    names = tuple(dict.fromkeys(action.name for action in actions.EVERY))
    keys = {}
    for name, value in raw.items():
        _known(name, names, "action", path)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(key, str) and key for key in found):
            raise UsageError(f"keys.{name} is a key or a list of keys", where=str(path), hint=f'{name} = "X"')
        keys[name] = ",".join(written.name(key) for key in found)
    for screen in (*actions.SCREENS, *actions.DIALOGS):
        seen: dict[str, str] = {}
        for action in actions.Keys(keys).of(screen):
            for key in action.keys.split(","):
                if key in seen:
                    problem = f"{key!r} would be {seen[key]} and {action.name} in {screen}"
                    raise UsageError(problem, where=f"{path}: [keys]", hint="give one of them another key")
                seen[key] = action.name
    return keys
