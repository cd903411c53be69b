"""The full-screen app: the four screens, the actions of the table, the palette; following a run is in `following`.

It never imports torch; everything it shows comes from a run's folder. `run_app` is what the command line calls.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, SystemCommand
from textual.command import Provider
from textual.filter import Monochrome
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import WorkerError

from engine import files, runs
from engine.errors import EngineError, UsageError
from tui import actions
from tui.actions import Keys
from tui.commanding import CommandingApp
from tui.follow import INTERVAL
from tui.following import NO_RUN_OPEN, as_engine_error
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Dialog
from tui.screens.keyed import KeyedScreen
from tui.settings import Settings, load, store
from tui.widgets.sheet import Sheet
from tui.widgets.themes import SIGNS, THEMES, NoColours

SCREEN_CLASSES = {
    "inspect": "InspectScreen",
    "run": "RunScreen",
    "prompts": "PromptsScreen",
    "profiles": "ProfilesScreen",
}
DEFAULTS = Settings()


def _loader(name: str) -> Callable[[], Screen[Any]]:
    """Imports a screen when its mode is first entered."""

    def load() -> Screen[Any]:
        screen: Screen[Any] = getattr(import_module(f"tui.screens.{name}"), SCREEN_CLASSES[name])()
        return screen

    return load


def _places() -> type[Provider]:
    """The palette's places are imported when it is first opened."""
    from tui.palette import Places

    return Places


class CompressApp(CommandingApp, inherit_bindings=False):
    """The app; `profile_ref` is the profile that it was started with."""

    TITLE = "compress-tui"
    CSS_PATH = "compress.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {name: _loader(name) for name in actions.SCREENS}
    ENABLE_COMMAND_PALETTE = False  # Textual would give it a key of its own, ahead of all others
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {*App.COMMANDS, _places}

    def __init__(self, profile: str | None = None, run: runs.Run | None = None, settings: Settings = DEFAULTS) -> None:
        super().__init__(profile, run)
        self._current_mode = "run" if run else "profiles"  # Textual begins with an empty screen of its own
        self._screen_stacks = {self._current_mode: []}
        self.animation_level = "none"
        self.use_command_palette = True
        self.stylesheet = Sheet(variables=self.get_css_variables())
        self.settings = settings
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = settings.theme
        self.keys = Keys(settings.keys)
        self.set_keymap(self.keys.keymap())
        self._filters = [NoColours() if isinstance(kept, Monochrome) else kept for kept in self._filters]

    def watch_theme(self, name: str) -> None:
        """The signs' colours go along with the theme."""
        if name in SIGNS:
            self.ansi_theme_dark = self.ansi_theme_light = SIGNS[name]

    def on_mount(self) -> None:
        self._look()
        self.set_interval(INTERVAL, self.tick)

    # actions

    def why_not(self, name: str) -> str | None:
        """Why an action cannot be done now: the app's reasons, then the screen's."""
        screen = self.screen
        if isinstance(screen, Dialog):
            return screen.why_not(name)
        if name in ("cancel", "detach", "pause") and self.follower is None:
            return self.keys.text(NO_RUN_OPEN)
        if name in ("cancel", "detach") and self.follower and not self.follower.going:
            return f"the run is not going: it is {self.follower.status}"
        if not isinstance(screen, WorkScreen):
            return None
        return screen.why_not(name) if screen.ready else "the screen is still opening"

    async def action_act(self, name: str) -> None:
        """Does an action of the table, or says why not."""
        if not isinstance(self.screen, KeyedScreen):
            return
        reason = self.why_not(name)
        if reason:
            self.notify(reason, severity="warning", timeout=4, markup=False)
            return
        try:
            done = (getattr(self.screen, f"do_{name}", None) or getattr(self, f"do_{name}"))()
            if inspect.isawaitable(done):
                await done
        except (EngineError, OSError) as error:
            self.complain(as_engine_error(error))
        self.update_screen()

    def do_inspect(self) -> None:
        self.switch_mode("inspect")

    def do_run(self) -> None:
        self.switch_mode("run")

    def do_prompts(self) -> None:
        self.switch_mode("prompts")

    def do_profiles(self) -> None:
        self.switch_mode("profiles")

    def do_help(self) -> None:
        from tui.screens.help import help_screen

        if isinstance(self.screen, KeyedScreen):
            self.push_screen(help_screen(self.screen.scope, self.keys))

    async def do_accept(self) -> None:
        """Enters what is typed."""
        if isinstance(self.focused, Input):
            await self.focused.action_submit()

    def do_palette(self) -> None:
        self.action_command_palette()

    def do_theme(self) -> None:
        from tui.screens.colours import Colours

        def chosen(name: str | None) -> None:
            if name is not None:
                self._keep_theme(name)

        self.push_screen(Colours(self.theme), chosen)

    @work(group="settings", exclusive=True)
    async def _keep_theme(self, name: str) -> None:
        """Writes the chosen theme into the settings."""
        try:
            path = await asyncio.to_thread(store, "theme", name)
        except UsageError as error:
            self.complain(error)
        else:
            bare = "; NO_COLOR is set, so none is shown" if self.no_color else ""
            self.notify(f"{name}, kept in {path}{bare}", timeout=4, markup=False)

    # the palette, and what nobody foresaw

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action of the screen, from the one table; of those of others, for which it goes there, what is searched."""
        here = self.current_mode
        for action in self.keys.of(here):
            if action.name != "palette":
                yield SystemCommand(_title(action), _help(action), partial(self._choose, here, action.name))
        for mode in actions.SCREENS:
            for action in self.keys.of(mode) if mode != here else ():
                if here not in action.screens:
                    title = f"{mode.capitalize()}: {action.label}"
                    yield SystemCommand(title, _help(action), partial(self._choose, mode, action.name), discover=False)

    def _choose(self, mode: str, name: str) -> None:
        self.run_worker(self._act_there(mode, name), group="act")

    async def _act_there(self, mode: str, name: str) -> None:
        if mode != self.current_mode:
            await self.switch_mode(mode)
            if isinstance(self.screen, WorkScreen):
                await self.screen.opened.wait()
            for worker in [worker for worker in self.workers if worker.group == mode]:
                with suppress(WorkerError):  # what went wrong has been said
                    await worker.wait()  # it reads what the screen is of
        await self.action_act(name)

    def _fatal_error(self) -> None:
        """Keeps the traceback of a bug off the screen: it goes to a file."""
        path = files.cache_folder() / "app-crash.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        error = self._exception
        files.write_text(path, "".join(traceback.format_exception(error)) if error else "")
        self._exit_renderables.append(
            Text(
                f"error: the app stopped on a bug ({type(error).__name__}); runs go on\n"
                f"hint: the traceback is in {path}",
                no_wrap=True,
                overflow="ignore",
            )
        )
        self._close_messages_no_wait()


def _help(action: actions.Action) -> str:
    return f"{action.help} ({action.key})"


def _title(action: actions.Action) -> str:
    return f"{'Go to ' if action.name in actions.SCREENS else ''}{action.label.capitalize()}"


def collect_seldom() -> None:
    """What was imported is never searched for garbage again, and what is drawn less often: searches take a third of a screen's
    time, just when it is laid out.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def run_app(profile: str | None = None, *, run: str | None = None, mouse: bool = True) -> int:
    """Shows the app until it is left. Raises Unavailable when `run` or `profile` names nothing, UsageError for settings."""
    found = runs.find(run) if run else None
    if profile:
        from engine.profile import find

        find(profile)
    settings = load()
    app = CompressApp(profile, found, settings)
    collect_seldom()
    result = app.run(mouse=mouse and settings.mouse)
    return (app.return_code or 0) if result is None else result
