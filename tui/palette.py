"""What the command palette offers beside the actions: every profile, the newest runs, the models opened last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from engine import runs
from engine.errors import EngineError
from tui import recent
from tui.follow import Follower, glance

if TYPE_CHECKING:
    from tui.app import CompressApp

RUNS = 30


@dataclass(frozen=True)
class Place:
    """Something to go to: a line that is searched, one that explains it, and what choosing it does."""

    title: str
    help: str
    go: Callable[[], None]


class Places(Provider):
    """Profiles, runs and models; read in a thread when the palette opens.

    Every letter cancels the search for those before it: the reading goes on. (A `startup` that is still going is cancelled with
    it, and Textual finds nothing any more.)
    """

    async def startup(self) -> None:
        self._reading = asyncio.ensure_future(asyncio.to_thread(places, cast("CompressApp", self.app)))

    async def discover(self) -> Hits:
        for place in await asyncio.shield(self._reading):
            yield DiscoveryHit(place.title, place.go, help=place.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for place in await asyncio.shield(self._reading):
            if (score := matcher.match(place.title)) > 0:
                yield Hit(score, matcher.highlight(place.title), place.go, help=place.help)


def places(app: CompressApp) -> list[Place]:
    """All places there are now."""
    return [*_profiles(app), *_runs(app), *_models(app)]


def _profiles(app: CompressApp) -> list[Place]:
    from tui.widgets import drafts

    try:
        found, _ = drafts.found(app.profile_ref)
    except (EngineError, OSError, ValueError):  # the Profiles screen says what is wrong
        return []
    return [
        Place(f"Profile {file.stem}", f"Go to it in Profiles: {file.path}", partial(app.show_profile, str(file.path)))
        for file, _ in found
    ]


def _runs(app: CompressApp) -> list[Place]:
    seen = [glance(run) for run in runs.list_runs()[:RUNS]]
    return [
        Place(f"Run {one.run.name}", f"Open it: {one.status} {one.doing}".rstrip(), partial(_open_run, app, one.run))
        for one in seen
    ]


def _open_run(app: CompressApp, run: runs.Run) -> None:
    app.attach(Follower(run))


def _models(app: CompressApp) -> list[Place]:
    sources = dict.fromkeys([*reversed(recent.read(recent.MODELS)), "demo"])
    return [Place(f"Model {source}", "Open it in Inspect", partial(app.inspect_model, source)) for source in sources]
