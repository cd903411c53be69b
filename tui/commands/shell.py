"""`shell`: the app's command line without the screen, one command after another, with history and completion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import DONE, EngineError
from tui import output

if TYPE_CHECKING:
    from engine.profile import Profile
    from engine.runs import Run
    from tui import grammar

PROMPT = "compress> "


def shell(
    model: Annotated[str, typer.Option(metavar="SOURCE", help="The model to work on.")] = "demo",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let a python: model run its code.")] = False,
) -> int:
    """Type commands one by one: prune 0.6, ask "text", help."""
    from tui import recent

    session = Session(model, allow_code)
    code = DONE
    try:
        for line in _lines():
            try:
                code = session.obey(line)
            except EngineError as error:
                output.error(error)
                code = error.exit_code
            except KeyboardInterrupt:  # of the watching; runs go on
                continue
            else:
                recent.add(recent.COMMANDS, line)
            if session.left:
                break
    finally:
        session.resident.close()
    return code


class Session:
    """What the commands of one shell share: the model at hand, the run opened last, the resident worker."""

    def __init__(self, source: str, allow_code: bool) -> None:
        from tui.resident import Resident

        self.source, self.allow_code = source, allow_code
        self.run: Run | None = None
        self.resident = Resident()
        self.left = False

    def obey(self, line: str) -> int:
        """Does one line. Returns its exit code; raises EngineError."""
        from tui import grammar

        match grammar.parse(line, self.source):
            case grammar.Start(profile, queued):
                return self._start(profile, queued)
            case grammar.Ask() as question:
                self._ask(question)
            case grammar.Simple("quit"):
                self.left = True
            case grammar.Simple("attach", reference):
                return self._watch(reference or "last")
            case grammar.Simple("model", source):
                self._model(source)
            case grammar.Simple(word, argument):
                from tui import says

                output.data(says.text(word, argument).rstrip())
        return DONE

    def _model(self, source: str) -> None:
        from tui import says

        if source:
            self.source = says.model(source)
        output.note(f"model: {self.source}")

    def _start(self, profile: Profile, queued: bool) -> int:
        from engine import profile as profiles
        from engine import queueing, runs
        from tui.commands.run import code_allowed

        code_allowed(profile, self.allow_code)
        self.run = runs.create(profile.name, profiles.dump(profile))
        if queued:
            queueing.join(self.run)
        runs.start_detached(self.run, allow_code=self.allow_code)
        if queued:
            output.note(f"queued: attach {self.run.name}")
            return DONE
        return self._watch(str(self.run.path))

    def _watch(self, reference: str) -> int:
        from engine import runs
        from tui.commands.runs import follow

        self.run = runs.find(reference)
        output.note(f"Ctrl-C stops watching, the run goes on: attach {self.run.name}")
        return follow(self.run)

    def _ask(self, question: grammar.Ask) -> None:
        """One model after the other, as it writes."""
        from engine import runs
        from tui.resident import pair, place

        run = self.run or runs.find("last")
        for label, source in zip(("dense", "compressed"), pair(run, run.state()), strict=True):
            output.note(output.paint(f"{label}:", output.BOLD, sys.stderr))
            with closing(self.resident.ask(question.text, question.tokens, [source], place(run))) as answer:
                for line in answer:
                    output.piece(line.get("piece", ""))
            output.data()


def _lines() -> Iterator[str]:
    """The lines that are typed, or piped in; blank ones and comments are skipped."""
    asking = sys.stdin.isatty()
    if asking:
        _use_readline()
        output.note("help lists the commands, tab completes, quit leaves")
    while True:
        try:
            line = _asked() if asking else sys.stdin.readline()
        except EOFError:
            return
        if not asking and not line:
            return
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _asked() -> str:
    """A line that is typed. The prompt is no data: where that goes to a file, it stands on stderr."""
    if sys.stdout.isatty():
        return input(PROMPT)
    print(PROMPT, end="", file=sys.stderr, flush=True)
    return input()


def _use_readline() -> None:
    """History and completion, where Python was built with readline."""
    with suppress(ImportError):
        import readline

        from tui import completion, recent

        for line in recent.read(recent.COMMANDS):
            readline.add_history(line)

        offered: list[str] = []

        def offer(word: str, index: int) -> str | None:
            if index == 0:
                offered[:] = completion.complete(readline.get_line_buffer()[: readline.get_endidx()])
            return completion.completed("", offered[index]) if index < len(offered) else None

        readline.set_completer_delims(" \t")
        readline.set_completer(offer)
        readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
