"""The frame: layouts by width, a terminal that is too small, leaving, errors, NO_COLOR."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, append, notices, settle, words

from engine import events as ev
from engine import profile, runs
from engine.errors import UsageError
from engine.eventfile import EventReader
from tui.app import CompressApp
from tui.follow import Follower
from tui.screens.dialogs import Choice


async def test_as_many_panes_as_fit(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        for width, panes in ((120, 6), (119, 2), (80, 2), (79, 1), (50, 1)):
            await pilot.resize_terminal(width, 24)
            await settle(pilot)
            shown = [pane for pane in app.screen.panes if pane.display]
            assert len(shown) == panes
            assert all(pane.region.right <= width for pane in shown)


async def test_resizing_rearranges_and_a_small_terminal_says_what_it_needs(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        await pilot.resize_terminal(40, 15)
        await settle(pilot)
        shown = words(app)
        assert "terminal too small" in shown
        assert "needed: 50x16, now: 40x15" in shown
        assert "Layers" not in shown
        for size in ((60, 20), (300, 80), SMALL):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            assert "Layers" in words(app)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
async def test_no_words_need_colours(size: tuple[int, int], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("finished")

    async def look() -> list[str]:
        """Every screen, and what opens over one."""
        app, seen = app_on(run), []
        async with app.run_test(size=size) as pilot:
            for keys in ("1", "2", "3", "4", "question_mark", "escape o", "escape colon", "escape T", "escape ctrl+p"):
                await pilot.press(*keys.split())
                await settle(pilot)
                app.export_screenshot()  # goes through the filter that takes the colours out
                seen.append(words(app))
        return seen

    coloured = await look()
    monkeypatch.setenv("NO_COLOR", "1")
    assert len(set(coloured)) == 9
    assert await look() == coloured


async def test_quit_leaves_at_once_when_nothing_runs(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("q")
    assert app.return_value == 0


@pytest.mark.parametrize(("key", "leaves", "cancels"), [("enter", True, 0), ("c", True, 1), ("s", False, 0)])
async def test_quit_while_running_asks(
    key: str, leaves: bool, cancels: int, make_run: MakeRun, signals: list[int]
) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, Choice)
        assert "detach: leave, the run goes on" in words(app)
        await pilot.press(key)
        await pilot.pause()
        assert app._exit is leaves
        assert len(signals) == cancels


async def test_detach_leaves_the_run_alone(make_run: MakeRun, signals: list[int]) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("d")
    assert app.return_value == 0
    assert signals == []


async def test_an_error_is_a_message_with_its_hint(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: runs.Run, signal: int) -> None:
        raise UsageError("the run is on host [elsewhere]", where=run.name, hint="log in there")

    app = app_on(make_run("running", alive=True))
    monkeypatch.setattr(runs, "send_signal", refuse)
    async with app.run_test(size=MIDDLE, notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert notices(app)[-1].endswith("the run is on host [elsewhere]\nhint: log in there")
        assert "hint: log in there" in words(app)


async def test_a_bug_ends_with_a_message_and_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: CompressApp) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(CompressApp, "do_pause", broken)
    monkeypatch.setattr(CompressApp, "why_not", lambda self, name: None)

    async def press() -> None:
        async with app_on().run_test(size=SMALL) as pilot:
            await pilot.press("2")
            await settle(pilot)
            await pilot.press("space")

    with pytest.raises(ZeroDivisionError):
        await press()
    told = capsys.readouterr().err
    assert "the app stopped on a bug (ZeroDivisionError)" in told
    assert "Traceback" not in told
    from engine import files

    assert "secret detail" in (files.cache_folder() / "app-crash.log").read_text()


async def test_the_run_is_never_read_by_the_thread_that_draws(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[tuple[str, bool]] = []

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(self: Any, *arguments: Any) -> Any:
            reading.append((name, threading.current_thread() is threading.main_thread()))
            return original(self, *arguments)

        monkeypatch.setattr(owner, name, call)

    run, other = make_run("running", alive=True), make_run("failed", name="20251123T160000-demo-old1")
    watch(EventReader, "read")
    watch(runs.Run, "owner")
    app = app_on(other)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        app.attach(Follower(run))
        assert app.follower.status == "reading"
        await settle(pilot)
        assert "▶ running" in words(app)
        for key in ("j", "3", "2", "4", "2"):
            await pilot.press(key)
            append(run, ev.to_json(ev.Log(message=key, seq=5000 + len(reading), time=1.0)))
            await settle(pilot)
        await pilot.press("space", "j", "space")
        await settle(pilot)
    assert {"read", "owner"} <= {name for name, _ in reading}
    assert not any(main for _, main in reading)


async def test_a_profile_is_checked_once_and_not_at_every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    app, checks = app_on(), []
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        original = profile.parse
        monkeypatch.setattr(profile, "parse", lambda *args, **more: (checks.append(args), original(*args, **more))[1])
        for _ in range(5):
            await settle(pilot)
    assert checks == []


async def test_the_modes_keep_what_they_showed(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("tab")
        await pilot.press("4")
        await settle(pilot)
        await pilot.press("2")
        await settle(pilot)
        assert app.screen.active.id == "blocks-pane"


async def test_it_begins_with_its_own_screen(make_run: MakeRun) -> None:
    for app, mode in ((app_on(), "profiles"), (app_on(make_run("finished")), "run")):
        async with app.run_test(size=SMALL) as pilot:
            await settle(pilot)
            assert app.current_mode == mode
            assert list(app._screen_stacks) == [mode]


async def test_themes_do_not_share_what_is_made_of_their_colours() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        seen = []
        for theme in ("compress-dark", "compress-light", "compress-dark"):
            app.theme = theme
            await settle(pilot)
            seen.append(app.screen.styles.background)
        assert seen[0] == seen[2] != seen[1]
