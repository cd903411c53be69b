"""The part of the app that goes to a model or a profile, and does what was typed on the command line."""

from __future__ import annotations

from typing import Any

from textual import events, work
from textual.screen import Screen

from engine import archive, runs
from engine.errors import EngineError
from engine.runs import Run
from engine.state import RunState
from tui import grammar, says
from tui.follow import Follower
from tui.following import FollowingApp, as_engine_error
from tui.resident import Resident, pair, place
from tui.threads import aside


class CommandingApp(FollowingApp, inherit_bindings=False):
    """An app with a command line and a resident worker that answers questions; `profile_ref` is a profile to select."""

    def __init__(self, profile: str | None, run: Run | None) -> None:
        super().__init__(run)
        self.profile_ref = profile
        self.resident = Resident()

    def on_resize(self, event: events.Resize) -> None:
        """Whatever is measured need not ask the system for the terminal's size."""
        self.console.size = event.size

    def on_unmount(self) -> None:
        self.resident.close()

    def inspect_model(self, source: str) -> None:
        """Opens a model in the Inspect screen."""
        self.model_source = source
        self.switch_mode("inspect")
        self.call_later(self._open_model, source)

    @work(group="artifacts", exclusive=True)
    async def show_artifacts(self, source: str) -> None:
        """Shows every measured artifact of a model; the run of one that is chosen is opened."""
        from tui.screens.artifacts import ArtifactsScreen

        def read() -> tuple[list[tuple[archive.Measured, bool]], int]:
            found, more = archive.found(source)
            return list(zip(found, archive.front(found), strict=True)), more

        def chosen(run: Run | None) -> None:
            if run:
                self.attach(Follower(run))

        try:
            shown, more = await aside(read)
        except EngineError as error:
            self.complain(error)
            return
        self.push_screen(ArtifactsScreen(source, shown, more), chosen)

    def show_profile(self, path: str) -> None:
        """Goes to a profile in the Profiles screen."""
        self.profile_ref = path
        self.switch_mode("profiles")
        self.call_later(self._select_profile, path)

    def _select_profile(self, path: str) -> None:
        screen: Any = self.screen
        if screen.id == "profiles" and screen.drafts:  # else it selects profile_ref when it has read them
            screen.load(path)

    def _open_model(self, source: str) -> None:
        screen: Any = self.screen
        if screen.id == "inspect" and screen.ready and screen.source != source:  # else it opens it when it is
            screen.open_model(source)

    def attach(self, follower: Follower) -> None:
        """A run that is opened brings its model: the one that commands are about."""
        self.model_source = ""
        super().attach(follower)

    def do_command(self) -> None:
        from tui.screens.command import CommandLine

        self.push_screen(CommandLine(self.model_source or "demo"), self._obey)

    def _obey(self, command: grammar.Command | None) -> None:
        try:
            self._do(command)
        except (EngineError, OSError) as error:
            self.complain(as_engine_error(error))

    def _do(self, command: grammar.Command | None) -> None:
        match command:
            case grammar.Start(profile, queued):
                self.start(profile, queued=queued)
            case grammar.Ask():
                self._ask(command)
            case grammar.Simple("quit"):
                self.do_quit()
            case grammar.Simple("model", source):
                self.inspect_model(says.model(source) if source else self.model_source or "demo")
            case grammar.Simple("attach", reference):
                self.attach(Follower(runs.find(reference or "last")))
            case grammar.Simple(word, argument):
                self._read(word, argument)

    def _ask(self, question: grammar.Ask) -> None:
        from tui.screens.answers import AnswersScreen

        run, state = self._compared()
        dense, compressed = pair(run, state)
        models = [("dense", dense), ("compressed", compressed)]
        self.push_screen(AnswersScreen(question, models, self.resident, place(run)))

    def _compared(self) -> tuple[Run, RunState]:
        """The run whose models are asked: the open one, else the newest."""
        if self.follower is not None:
            return self.follower.run, self.follower.state
        run = runs.find("last")
        return run, run.state()

    @work(group="reading", exclusive=True)
    async def _read(self, word: str, argument: str) -> None:
        """Shows the text of a word that only tells something; what a comparison computes takes a thread of its own."""
        from tui.screens.dialogs import Reader, printed

        try:
            text = await aside(says.text, word, argument, self.follower.run if self.follower else None)
        except (EngineError, OSError) as error:
            self.complain(as_engine_error(error))
            return
        screen: Screen[None] = Reader(word.capitalize(), printed(text))
        self.push_screen(screen)
