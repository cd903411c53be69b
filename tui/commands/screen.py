"""Opens the full-screen app, where there is a terminal for it."""

from __future__ import annotations

import os
import sys

from engine.errors import UsageError


def open_app(profile: str | None, *, run: str | None = None, mouse: bool = True) -> int:
    """Shows the app until it is left. Raises UsageError where nothing can be shown."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        hint = "without one: compress-tui run --profile demo, compress-tui attach last --plain"
        raise UsageError("the app needs a terminal", hint=hint)
    from tui.app import run_app

    return run_app(profile, run=run, mouse=mouse)
