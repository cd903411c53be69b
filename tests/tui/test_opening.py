"""Opening a model in Inspect: by the hub's name, with a hub that does not answer, and by walking folders with the keys."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from fixtures import hubs
from fixtures.hubs import NAME
from recorded import PATIENCE, SMALL, app_on, settle, words
from textual.pilot import Pilot
from textual.widgets import Input

from tui.app import CompressApp
from tui.threads import aside


async def ask(pilot: Pilot[int], app: CompressApp, source: str) -> None:
    """Types a model into Inspect's question."""
    await pilot.press("1", "m")
    app.screen.query_one(Input).value = source
    await pilot.press("enter")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return hubs.cache(monkeypatch, tmp_path / "hub")


async def test_a_hub_name_is_opened_from_the_cache(dense: Path, cache: Path) -> None:
    hubs.cached(cache, dense)
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await ask(pilot, app, NAME)
        await settle(pilot)
        assert app.screen.summary.name == NAME
        assert f"Model · {NAME}" in words(app)


async def test_headers_from_the_hub_have_no_weights_to_draw(
    dense: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.online(monkeypatch, dense)
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await ask(pilot, app, f"hub:{NAME}")
        await settle(pilot)
        assert f"Model · {NAME}" in words(app)
        await pilot.press("G", "shift+tab", "shift+tab")
        await settle(pilot)
        assert "weights are on the hub" in str(app.screen.query_one("#weights").content)


async def test_offline_the_screen_says_what_to_do(cache: Path) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await ask(pilot, app, NAME)
        await settle(pilot)
        for text in (f"error: {NAME}", "HF_HUB_OFFLINE", f"hf download {NAME}", "open another model"):
            assert text in " ".join(words(app).split())


async def test_a_hub_that_hangs_is_left_for_another_model(
    dense: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, end = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        asked.set()
        end.wait(PATIENCE)

    hubs.answer(monkeypatch, hang)
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await ask(pilot, app, NAME)
        await asyncio.to_thread(asked.wait, PATIENCE)
        await pilot.pause()
        assert f"reading the headers of {NAME}" in words(app)
        assert "open another model" in words(app)
        await ask(pilot, app, str(dense))
        await settle(pilot)
        assert app.screen.summary.path == str(dense)
        end.set()
        await settle(pilot)
        assert app.screen.summary.path == str(dense)


def test_the_process_ends_before_what_is_done_aside() -> None:
    began, end, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        end.wait(PATIENCE)
        ended.set()

    async def leave() -> None:
        task = asyncio.create_task(aside(hang))
        await asyncio.to_thread(began.wait, PATIENCE)
        task.cancel()

    asyncio.run(leave())
    assert not ended.is_set()
    end.set()


async def test_what_fails_aside_fails_where_it_is_awaited() -> None:
    def fail() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await aside(fail)
