"""The part of the app that follows a run: looking at it, pausing the display, starting, resuming, cancelling, leaving.

`app` adds the screens and the actions to it. Files of the run are read in a thread; the thread that draws only folds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ScreenStackError
from textual.binding import BindingType

from engine import queueing, runs
from engine.errors import INTERRUPTED, EngineError
from tui.actions import Keys
from tui.follow import Follower
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Choice

if TYPE_CHECKING:
    from engine.profile import Profile

STDIN = 0
NO_RUN_OPEN = "no run is open: {runs} lists them"


class FollowingApp(App[int], inherit_bindings=False):
    """An app with one open run, `follower`, or none; `model_source` is the model that the Inspect screen starts with."""

    BINDINGS: ClassVar[list[BindingType]] = []  # none of Textual's own: ctrl+q is flow control on many terminals

    def __init__(self, run: runs.Run | None = None) -> None:
        super().__init__()
        self.keys = Keys()
        self.model_source = ""
        self.follower: Follower | None = Follower(run) if run else None
        self._paused_at: float | None = None
        self._looking: Follower | None = None
        self._held: Callable[[], bool] | None = None
        self._had_terminal = os.isatty(STDIN)

    @property
    def paused(self) -> bool:
        """Whether the display stands still: nothing that the run writes is taken over until it goes on."""
        return self._paused_at is not None

    def now(self) -> float:
        """The time that the screens show (seconds since the epoch); it stands still with the display."""
        return time.time() if self._paused_at is None else self._paused_at

    def tick(self) -> None:
        """Every INTERVAL: look at what the run wrote, in a thread, unless the display is paused."""
        if self._had_terminal and not os.isatty(STDIN):
            os._exit(INTERRUPTED)  # the connection dropped: nothing here to save, no terminal to restore, runs go on
        if self.follower is None:
            self.update_screen()
        elif not self.paused:
            self._look()

    def _look(self) -> None:
        """Reads on in a thread, unless it is at it."""
        if self.follower is not None and self._looking is not self.follower:
            self._looking = self.follower
            self._follow(self.follower)

    @work(group="follow")
    async def _follow(self, follower: Follower) -> None:
        try:
            while (look := await asyncio.to_thread(follower.look)).more and self.follower is follower:
                if self.paused:
                    break
                follower.fold(look)  # a long run that was just opened: shown when it is read
        finally:
            if self._looking is follower:  # another run may have been opened meanwhile
                self._looking = None
        if self.paused and follower is self.follower:  # since the look began
            self._held = partial(follower.fold, look)
            return
        follower.fold(look)
        self.update_screen()

    def update_screen(self) -> None:
        """Shows the state as it is."""
        if self.follower:
            self.model_source = self.model_source or self.follower.state.source
        with suppress(ScreenStackError):  # between two modes there is no screen for a moment
            if isinstance(self.screen, WorkScreen):
                self.screen.update_view()

    def complain(self, error: EngineError) -> None:
        """Shows an error: what, where and the hint."""
        first, *rest = error.lines()
        self.notify("\n".join([first.removeprefix("error: "), *rest]), title="error", severity="error", markup=False)

    def do_pause(self) -> None:
        self._paused_at = None if self.paused else time.time()
        if self._held and not self.paused:
            self._held()
            self._held = None
        said = "the display is paused, the run goes on; {pause} again resumes" if self.paused else "the display goes on"
        self.notify(self.keys.text(said), timeout=3)

    def do_runs(self) -> None:
        from tui.screens.runs import RunsDialog

        def chosen(run: runs.Run | None) -> None:
            if run:
                self.attach(Follower(run))

        self.push_screen(RunsDialog(), chosen)

    def do_cancel(self) -> None:
        if self.follower and self.follower.requests < 2:
            self._try(self.follower.cancel)
        else:
            text = "What it has not saved since the last checkpoint is lost. It can be resumed."
            answers = [("no", "no, wait"), ("kill", "kill it (SIGKILL)")]
            self.push_screen(Choice("Kill the run?", answers, text), self._kill)

    def _kill(self, answer: str | None) -> None:
        if answer == "kill" and self.follower:
            self._try(self.follower.cancel)

    def do_detach(self) -> None:
        self.exit(0, message=Text(f"the run goes on: {self.follower.run.attached_by}" if self.follower else ""))

    def do_quit(self) -> None:
        if self.follower is None or not self.follower.going:
            self.exit(0)
            return
        answers = [
            ("leave", "detach: leave, the run goes on"),
            ("stop", "cancel: stop the run at the next safe point, then leave"),
            ("stay", "stay here"),
        ]
        self.push_screen(Choice("A run is going. Leave?", answers, self.follower.run.name), self._leave)

    def _leave(self, answer: str | None) -> None:
        if answer == "leave":
            self.do_detach()
        elif answer == "stop" and self.follower and self._asked_to_stop():
            self.exit(0, message=Text(f"asked the run to stop: {self.follower.run.attached_by}"))

    def _asked_to_stop(self) -> bool:
        """Whether the run was asked to stop, now or before; never more than asked."""
        return self.follower is not None and (self.follower.requests > 0 or self._try(self.follower.cancel))

    def _try(self, call: Callable[[], str]) -> bool:
        try:
            self.notify(self.keys.text(call()), severity="warning", markup=False)
        except (EngineError, OSError) as error:
            self.complain(as_engine_error(error))
            return False
        return True

    # runs

    def attach(self, follower: Follower) -> None:
        """Opens a run and shows it, as far as it was read."""
        self.follower, self._paused_at, self._held = follower, None, None
        self._look()
        self.switch_mode("run")

    def start(self, profile: Profile, *, queued: bool = False) -> None:
        """Starts a checked profile as a detached run, or queues it; one that runs code is confirmed first."""
        self._confirm_code(profile.model.source, partial(self._start, profile, queued))

    def _confirm_code(self, source: str, go: Callable[[bool], None]) -> None:
        """Calls `go(allow_code)`: at once for a model that runs no code of its own, else after a yes."""
        if not source.startswith("python:"):
            go(False)
            return
        text = f"{source}\nThe profile imports and calls this with your rights."
        answers = [("no", "no"), ("yes", "yes, run the code")]

        def answered(answer: str | None) -> None:
            if answer == "yes":
                go(True)

        self.push_screen(Choice("This profile runs code. Allow it?", answers, text), answered)

    def _start(self, profile: Profile, queued: bool, allow_code: bool) -> None:
        from engine.profile import dump

        try:
            run = runs.create(profile.name, dump(profile))
            if queued:
                queueing.join(run)
            before = queueing.ahead(run) if queued else []
            process = runs.start_detached(run, allow_code=allow_code)
        except EngineError as error:
            self.complain(error)
        except OSError as error:
            self.complain(EngineError(f"the worker does not start: {error.strerror}"))
        else:
            if before and self.follower:
                said = self.keys.text("{runs} lists the runs")
                self.notify(f"queued after {before[-1].name}: {said}", timeout=4, markup=False)
            else:
                self.attach(Follower(run, process))

    def resume_run(self) -> None:
        """Starts a worker on the open run's folder again; one that runs code is confirmed again."""
        if self.follower is None:
            return
        self._confirm_code(profile_source(self.follower.run), self._resume)

    def _resume(self, allow_code: bool) -> None:
        if self.follower is None:
            return
        try:
            process = runs.start_detached(self.follower.run, allow_code=allow_code)
        except OSError as error:
            self.complain(as_engine_error(error))
            return
        self.follower.resumed_by(process)
        self.notify("going on with the run", timeout=3)


def as_engine_error(error: EngineError | OSError) -> EngineError:
    """What the system refused, in the words of our own errors."""
    if isinstance(error, EngineError):
        return error
    return EngineError(error.strerror or str(error), where=str(error.filename) if error.filename else None)


def profile_source(run: runs.Run) -> str:
    """The model that a run's own profile names, "" when there is none to read."""
    from engine import profile

    try:
        return profile.load(str(run.profile_file)).model.source
    except EngineError:  # the worker will say what is wrong with it
        return ""
