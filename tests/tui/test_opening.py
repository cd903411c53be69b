"""Opening a model in Inspect: by the hub's name, with a hub that does not answer, and by walking folders with the keys."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from fixtures import hubs
from fixtures.hubs import NAME
from recorded import LARGE, PATIENCE, SMALL, app_on, notices, settle, words
from textual.pilot import Pilot
from textual.widgets import Input

from tui.app import CompressApp
from tui.screens.picking import PickScreen
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


# Folders


@pytest.fixture
def shelf(dense: Path) -> Path:
    """Folders, models and what is none, beside each other."""
    shelf = Path("shelf").resolve()
    for place in ("[deep]/deeper", "empty", ".hidden"):
        (shelf / place).mkdir(parents=True)
    dense.rename(shelf / "[deep]" / "deeper" / "dense")
    for file in ("b.gguf", "A.safetensors", "notes.txt", "[deep]/weights.bin", ".hidden/c.gguf"):
        (shelf / file).write_bytes(bytes(2000))
    (shelf / "gone.gguf").symlink_to("nowhere")
    (shelf / "half").mkdir()
    (shelf / "half" / "config.json").write_text("{}")
    return shelf


async def browse(pilot: Pilot[int], app: CompressApp, place: str) -> None:
    await pilot.press("1", "m")
    app.screen.query_one(Input).value = place
    await pilot.press("tab")
    await settled(pilot)


async def settled(pilot: Pilot[int]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
async def test_folders_are_walked_to_a_model_with_keys_alone(size: tuple[int, int], shelf: Path) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await browse(pilot, app, "./shelf/nothing/here")
        picks = app.screen
        assert picks.target.order == ["..", "[deep]", "empty", "half", "A.safetensors", "b.gguf"]
        assert picks.target.selected == "[deep]"
        for text in ("shelf", "[deep]/", "folder", "gguf", "2.0 kB", "enter open"):
            assert text in words(app)
        await pilot.press("enter")
        await settled(pilot)
        assert picks.target.order == ["..", "deeper"]
        await pilot.press("l")
        await settled(pilot)
        assert picks.target.order == ["..", "dense"]
        assert "model" in words(app)
        await pilot.press("y")
        assert app.clipboard == str(shelf / "[deep]" / "deeper" / "dense")
        await pilot.press("enter")
        await settle(pilot)
        assert app.screen.summary.path == str(shelf / "[deep]" / "deeper" / "dense")


async def test_the_way_up_keeps_the_place(shelf: Path) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await browse(pilot, app, str(shelf / "[deep]" / "deeper" / "dense"))
        picks = app.screen
        assert (picks.folder.name, picks.target.selected) == ("deeper", "dense")
        await pilot.press("right")  # into a folder that is a model
        await settled(pilot)
        assert picks.target.order == ["..", ".", "model.safetensors"]
        await pilot.press("left")
        await settled(pilot)
        assert picks.target.selected == "dense"
        await pilot.press("g", "enter")
        await settled(pilot)
        assert (picks.folder.name, picks.target.selected) == ("[deep]", "deeper")
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one(Input).value.endswith("dense")
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen.summary is None


async def test_hidden_ones_are_a_key_away(shelf: Path) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await browse(pilot, app, str(shelf))
        assert ".hidden" not in app.screen.target.order
        await pilot.press("full_stop")
        await settled(pilot)
        assert ".hidden" in app.screen.target.order
        assert app.screen.target.selected == "[deep]"


async def test_a_folder_that_cannot_be_read_is_said_and_not_gone_to(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, plain = app_on(), Path.iterdir

    def iterdir(path: Path) -> Any:
        if path.name == "empty":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    async with app.run_test(size=SMALL) as pilot:
        await browse(pilot, app, str(shelf))
        await pilot.press("j", "enter")
        await settled(pilot)
        assert notices(app)[-1] == f"cannot read {shelf / 'empty'}: Permission denied"
        assert app.screen.folder == shelf
        assert isinstance(app.screen, PickScreen)


async def test_the_model_to_compare_with_is_looked_for_too(shelf: Path) -> None:
    app = app_on()
    dense = shelf / "[deep]" / "deeper" / "dense"
    async with app.run_test(size=SMALL) as pilot:
        await ask(pilot, app, str(dense))
        await settle(pilot)
        await pilot.press("equals_sign")
        app.screen.query_one(Input).value = str(dense)
        await pilot.press("tab")
        await settled(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert app.screen.other.path == str(dense)
