"""The command palette: what it finds, by keys, from every screen, and where that goes."""

from __future__ import annotations

import threading

import pytest
from recorded import PATIENCE, SMALL, MakeRun, app_on, notices, settle, words
from textual.pilot import Pilot

from tui import actions, palette


async def test_the_palette_finds_profiles_runs_and_models_opened_before(make_run: MakeRun) -> None:
    from tui import recent

    run = make_run("finished")
    recent.add(recent.MODELS, "./mine")
    recent.add(recent.MODELS, "demo")
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        found = {place.title: place for place in palette.places(app)}
        assert {"Profile demo", "Profile edge", f"Run {run.name}", "Model ./mine", "Model demo"} <= set(found)
        assert found[f"Run {run.name}"].help.startswith("Open it: done")
        found[f"Run {run.name}"].go()
        await settle(pilot)
        assert app.current_mode == "run"
        found["Profile edge"].go()
        await settle(pilot)
        assert app.screen.draft.path.stem == "edge"


async def test_the_palette_searches_places_by_keys(make_run: MakeRun) -> None:
    run = make_run("finished")
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await search(pilot, "fini")
        assert app.follower.run == run


async def test_what_is_typed_before_the_places_are_read_is_found_once_they_are(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, there, plain = make_run("finished"), threading.Event(), palette.places
    monkeypatch.setattr(palette, "places", lambda app: (there.wait(PATIENCE), plain(app))[1])
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+p", *"fini")
        there.set()
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert app.follower.run == run


@pytest.mark.parametrize("mode", actions.SCREENS)
async def test_every_action_of_every_screen_is_offered_on_each(mode: str, make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        app.switch_mode(mode)
        await settle(pilot)
        offered = [command.help for command in app.get_system_commands(app.screen)]
        told = "\n".join(offered)
        assert [action.name for action in actions.ACTIONS if action.help not in told] == ["palette"]


async def search(pilot: Pilot[int], text: str) -> None:
    """Chooses the first that the palette finds."""
    await pilot.press("ctrl+p", *("space" if letter == " " else letter for letter in text))
    await settle(pilot)
    await pilot.press("enter")
    for _ in range(2):
        await settle(pilot)


async def test_an_action_of_another_screen_goes_there_first(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert app.current_mode == "run"
        await search(pilot, "profiles: steps")
        assert app.current_mode == "profiles"
        assert "Steps, in order" in words(app)
        await pilot.press("escape", "1")
        await settle(pilot)
        await search(pilot, "prompts: which")
        assert app.current_mode == "prompts"
        assert "chosen better" in words(app)


async def test_an_action_of_a_screen_never_opened_waits_for_what_it_reads() -> None:
    app = app_on()
    app.model_source = "demo"
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await search(pilot, "inspect: what if")
        assert "What if all matrices" in words(app)


async def test_one_that_cannot_be_done_there_says_why() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await search(pilot, "run: cancel")
        assert app.current_mode == "run"
        assert notices(app)[-1] == "no run is open: o lists them"
