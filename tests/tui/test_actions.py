"""The table of actions: every key does something, and footer, help and palette say the same."""

from __future__ import annotations

import pytest
from recorded import MIDDLE, SMALL, MakeRun, app_on, notices, settle
from textual.binding import Binding

from tui import actions
from tui.app import SCREEN_CLASSES, CompressApp
from tui.screens.base import WorkScreen
from tui.screens.help import help_screen

FORBIDDEN = {"ctrl+a", "ctrl+b", "ctrl+s", "ctrl+q", "ctrl+z", "ctrl+j"}


@pytest.mark.parametrize("screen", [*actions.SCREENS, *actions.DIALOGS])
def test_no_key_means_two_things_on_a_screen(screen: str) -> None:
    keys = [key for action in actions.Keys().of(screen) for key in action.keys.split(",")]
    assert len(keys) == len(set(keys))
    assert not FORBIDDEN & set(keys)


def test_help_comes_first_everywhere() -> None:
    for screen in actions.SCREENS:
        assert actions.Keys().of(screen)[0].name == "help"


def test_every_help_text_is_one_line_of_the_help_screen_at_80_columns() -> None:
    assert [action.help for action in actions.EVERY if len(action.help) > 59] == []


async def test_bindings_help_footer_and_palette_agree(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=(180, 24)) as pilot:
        for number, screen in enumerate(actions.SCREENS, start=1):
            await pilot.press(str(number))
            await settle(pilot)
            agree(app, screen)


def agree(app: CompressApp, screen: str) -> None:
    current, listed = app.screen, app.keys.of(screen)
    bound = {b.action for found in current._bindings.key_to_bindings.values() for b in found}
    assert bound == {f"app.act('{action.name}')" for action in listed}
    foot = str(current.query_one("#foot").content)
    assert foot.startswith(f" {app.keys['help']} help")
    help_text = help_screen(screen, app.keys).text.plain
    offered = {command.help: command.title for command in app.get_system_commands(current)}
    for action in listed:
        assert hasattr(current, f"do_{action.name}") or hasattr(app, f"do_{action.name}")
        assert action.help in help_text
        assert not action.footer or f"{action.key} {action.label}" in foot
        assert action.name == "palette" or action.label.lower() in offered[f"{action.help} ({action.key})"].lower()


async def test_forbidden_keys_are_bound_nowhere_in_the_app() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        for node in (app, app.screen):
            assert not FORBIDDEN & set(node._bindings.key_to_bindings)


async def test_every_action_can_be_tried_on_every_screen(
    make_run: MakeRun, signals: list[int], started: list[object]
) -> None:
    skipped = {"quit", "detach", *actions.SCREENS}
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        for number, screen in enumerate(actions.SCREENS, start=1):
            await pilot.press(str(number))
            await settle(pilot)
            home = app.screen
            for action in actions.Keys().of(screen):
                if action.name in skipped:
                    continue
                await app.action_act(action.name)
                await pilot.pause()
                while app.screen is not home and not isinstance(app.screen, WorkScreen):
                    app.workers.cancel_node(app.screen)  # as its own key does
                    app.pop_screen()
                if app.screen is not home:
                    await app.action_act(screen)
                    await pilot.pause()
        assert app._exception is None


def test_each_screen_has_its_bindings_from_the_table() -> None:
    from importlib import import_module

    for name, class_name in SCREEN_CLASSES.items():
        screen = getattr(import_module(f"tui.screens.{name}"), class_name)
        bound = [b for b in screen.BINDINGS if isinstance(b, Binding)]
        assert [b.description for b in bound] == [a.label for a in actions.Keys().of(name)]


async def test_a_disabled_action_says_why() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("2", "x")
        await pilot.pause()
        assert notices(app)[-1] == "no run is open: o lists them"
        await pilot.press("s")
        await pilot.pause()
        assert notices(app)[-1] == "there is nothing here yet"


async def test_the_palette_opens_and_does_an_action() -> None:
    app = app_on()
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        commands = {command.title: command for command in app.get_system_commands(app.screen)}
        commands["Go to Inspect"].callback()
        await settle(pilot)
        assert app.current_mode == "inspect"


async def test_the_palette_does_actions_of_other_screens_there(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        commands = list(app.get_system_commands(app.screen))
        titles = [command.title for command in commands]
        for mode in {*actions.SCREENS} - {"run"}:
            own = [action for action in app.keys.of(mode) if "run" not in action.screens]
            assert own
            assert {f"{mode.capitalize()}: {action.label}" for action in own} <= set(titles)
        assert not [title for title in titles if title.startswith("Run: ")]
        steps = next(command for command in commands if command.title == "Profiles: steps")
        assert not steps.discover
        steps.callback()
        await settle(pilot)
        assert app.current_mode == "profiles"
        assert app.screen.scope == "steps"


def test_the_app_imports_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, tui.app, tui.screens.profiles; "
        "bad = {'torch', 'transformers', 'textual_plot', 'numpy', 'pydantic'} & set(sys.modules); "
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
