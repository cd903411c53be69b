"""The app on recorded runs: sizes, waiting, and what is on the screen."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from textual._compositor import Compositor
from textual._context import active_app, visible_screen_stack
from textual.geometry import Region
from textual.pilot import Pilot
from textual.screen import Screen
from textual.worker import WorkerCancelled

from engine import runs
from tui.app import CompressApp

FIRST, SECOND = (f"model.layers.{block}.mlp.up_proj.weight" for block in range(2))
"""the matrices of the model `dense`"""
RECORDED = Path(__file__).parent.parent / "fixtures" / "events"
SMALL, MIDDLE, LARGE = (80, 24), (120, 30), (160, 45)
PATIENCE = 10.0
"""seconds that a busy machine may take for one key"""
MakeRun = Callable[..., runs.Run]
MINE = """# mine
name = "mine"
[model]
source = "demo"
[[step]]
use = "prune"  # half
sparsity = 0.6
[[step]]
use = "prune"
pattern = "2:4"
[[step]]
use = "prune"
sparsity = 0.7
shares = {2 = 0.5, "model.layers.0.mlp.up_proj.weight" = 0.4}
"""
"""a profile with two steps that have a strip, the second with shares of its own"""


class FakeProcess:
    """A worker that was started and does nothing."""

    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


def app_on(run: runs.Run | None = None, profile: str | None = None) -> CompressApp:
    return CompressApp(profile, run)


async def settle(pilot: Pilot[int]) -> None:
    """Waits for threads and pending messages, and lets the app look at its run once more."""
    app: Any = pilot.app
    await _work_done(app)
    await pilot.pause()
    app.tick()
    await _work_done(app)
    await pilot.pause()


async def _work_done(app: CompressApp) -> None:
    """Waits for the threads; one that was cancelled is done, one that failed raises."""
    while app.workers:
        with suppress(WorkerCancelled):
            await app.workers.wait_for_complete()


async def until_idle(*_: float) -> None:
    """Returns when no widget of the screen has a message left and all is drawn, after PATIENCE seconds at last.

    A handler that waits for something is not seen: `settle` waits for workers, and a thread has a moment to say something.
    """
    app: Any = active_app.get()
    loop: Any = asyncio.get_running_loop()
    ends, idle = time.monotonic() + PATIENCE, 0
    while idle < 2 and time.monotonic() < ends and not app._exit and app._exception is None:
        idle = 0 if loop._ready or _has_work(app) else idle + 1
        if idle == 1 and app._screen_stack:
            _draw(app.screen)
        await asyncio.sleep(0.001 if idle == 1 and app.workers else 0)


def _has_work(app: Any) -> bool:
    """Whether a widget of the screen has a message, or there is something to lay out or to draw, which is done then."""
    screen = app.screen if app._screen_stack else None
    nodes = (app, *(screen.walk_children(with_self=True) if screen else ()))
    if app._resize_event or any(node._message_queue.qsize() for node in nodes):
        return True
    if screen and _due(screen):
        screen._on_timer_update()  # would come by itself some times a second
        return True
    return any(getattr(node, "_layout_required", 0) or getattr(node, "_recompose_required", 0) for node in nodes)


put_together = Compositor.render_update
"""what Textual sends to a terminal"""


def unseen(
    compositor: Compositor, full: bool = False, screen_stack: list[Screen[Any]] | None = None, simplify: bool = False
) -> Any:
    """Puts pictures together alone: without a terminal nothing else is seen before the app is idle."""
    return put_together(compositor, full, screen_stack, simplify) if full or simplify else None


def _draw(screen: Screen[Any]) -> None:
    """Has every widget draw what changed of it since it was last looked at."""
    compositor = screen._compositor
    visible_screen_stack.set(screen.app._background_screens)
    regions, whole = list(compositor._dirty_regions), compositor.size.region
    compositor._dirty_regions.clear()
    if regions:
        for _ in compositor._get_renders(Region.from_union(regions).intersection(whole)):
            pass


def _due(screen: Any) -> bool:
    """Whether there is something to lay out, to draw or to do after that."""
    names = (
        "_layout_required",
        "_scroll_required",
        "_repaint_required",
        "_recompose_required",
        "_dirty_widgets",
        "_callbacks",
    )
    return any(getattr(screen, name) for name in names)


def words(app: CompressApp) -> str:
    """What is on the screen, as text."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def notices(app: CompressApp) -> list[str]:
    return [notice.message for notice in app._notifications]


def append(run: runs.Run, *lines: str) -> None:
    with run.events_file.open("a", encoding="utf-8") as handle:
        handle.write("".join(f"{line}\n" for line in lines))


def kill(run: runs.Run) -> None:
    """Makes the run's owner a process that is gone."""
    owner = json.loads((run.path / "state.json").read_text())
    (run.path / "state.json").write_text(json.dumps({**owner, "process_started": 1.0, "pid": os.getpid()}))
