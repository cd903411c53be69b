"""Writing a text to a file that the user names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from engine import files
from engine.errors import EngineError
from tui.following import FollowingApp
from tui.screens.dialogs import Ask, Choice


def ask(
    app: FollowingApp, question: str, default: str, suffixes: Collection[str], answered: Callable[[Path], object]
) -> None:
    """Asks for a path that ends in one of the suffixes; nothing follows when the answer is none."""

    def check(value: str) -> str | None:
        known = " or ".join(suffixes)
        return None if Path(value).suffix in suffixes else f"a file name that ends in {known}"

    def given(value: str | None) -> None:
        if value:
            answered(Path(os.path.expanduser(value)).absolute())

    app.push_screen(Ask(question, default, check=check), given)


async def save(app: FollowingApp, path: Path, text: str) -> bool:
    """Writes the text, after a yes where a file is replaced, and says so; False where it did not. In a Textual worker only."""
    try:
        if path.exists() and not await _replaces(app, path):
            return False
        files.write_text(path, text)
    except (OSError, ValueError) as error:  # a name that cannot be, a text that is no UTF-8
        reason = getattr(error, "strerror", None) or error
        app.complain(EngineError(f"cannot write: {reason}", where=str(path)))
        return False
    app.notify(f"wrote {path}", markup=False)
    return True


async def _replaces(app: FollowingApp, path: Path) -> bool:
    answers = [("no", "no, keep it"), ("yes", "yes, replace it")]
    return await app.push_screen_wait(Choice(f"{path.name} exists. Replace it?", answers)) == "yes"
