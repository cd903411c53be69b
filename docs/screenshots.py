"""Draws the README's pictures beside this file from a recorded run of the demo profile: `python docs/screenshots.py`.

The app draws them itself. Its clock stands at the last event shown and it sees no setting of its user, so that the same
program draws the same bytes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import runs
from tui.app import CompressApp

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "demo"
RUN = "20261126T152949-demo-a0eb"


@dataclass(frozen=True)
class Picture:
    """The run up to event number `until` (to its end by default), and the keys that were pressed since the app was opened."""

    keys: tuple[str, ...]
    until: int | None = None
    size: tuple[int, int] = (132, 40)


PICTURES = {
    "run": Picture((), until=252),
    "inspect": Picture(("1", "j", "j", "enter", "j", "j", "j", "j")),
    "prompts": Picture(("3",)),
    "profiles": Picture(("4",)),
    "form": Picture(("4", "e", "down", "down", "end", "x")),
}


class Still(CompressApp):
    """The app on a run that does not move."""

    CSS_PATH = Path(inspect.getfile(CompressApp)).with_name("compress.tcss")

    def now(self) -> float:
        return self.follower.state.updated if self.follower else 0.0

    def _look(self) -> None:
        """What there is to read was read."""


def recorded(folder: Path, until: int | None) -> runs.Run:
    """The recorded run as a folder."""
    run = runs.create("demo", 'name = "demo"\n[model]\nsource = "demo"\n', folder / RUN)
    lines = (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    run.events_file.write_text("".join(lines[:until]), encoding="utf-8")
    if until is None:
        (run.artifacts / "prompts").mkdir(parents=True)
        shutil.copy(RECORDED / "examples.jsonl", run.artifacts / "prompts")
    return run


async def draw(picture: Picture, folder: Path) -> str:
    """The picture as SVG; a run that is not over seems to be going. Runs are looked for in `folder`."""
    app = Still(run=recorded(folder, picture.until))
    if app.follower:
        app.follower.fold(replace(app.follower.look(), alive=picture.until is not None, death=None))
    async with app.run_test(size=picture.size) as pilot:
        await settle(pilot)
        for key in picture.keys:
            await pilot.press(key)
            await settle(pilot)
        return app.export_screenshot(title="compress-tui", simplify=True)


async def settle(pilot: Any) -> None:
    """Waits for threads and for what they changed."""
    for _ in range(2):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        pilot.app.update_screen()
    await pilot.pause()


def main() -> None:
    os.environ.update(TZ="UTC")
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    for name, picture in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for variable in ("RUNS", "STATE", "CONFIG"):
                os.environ[f"COMPRESS_TUI_{variable}"] = f"{folder}/{variable.lower()}"
            svg = asyncio.run(draw(picture, Path(folder, "runs")))
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
