"""What the words of the command line that only tell something tell: help, a run's report, the last run's model."""

from __future__ import annotations

from collections.abc import Sequence

from engine import runs
from engine.errors import UsageError, did_you_mean
from engine.registry import STEPS
from engine.state import RunState
from tui import completion, grammar, resident


def text(word: str, argument: str, run: runs.Run | None = None) -> str:
    """The text of `report` (of `run`, else of the newest one, where none is named), `compare` and `help`.

    Raises Unavailable for a run that is not there, UsageError for a word.
    """
    if word == "compare":
        return comparison([runs.find(reference) for reference in argument.split()])
    if word == "report":
        found = runs.find(argument or "last") if argument or run is None else run
        return report(found, found.state())
    return _help(argument)


def comparison(found: Sequence[runs.Run]) -> str:
    """Runs side by side, under the id at the end of their names. Raises UsageError for less than two."""
    if len(found) < 2:
        raise UsageError("compare needs two runs or more", hint="compare last 3f2a")
    from tui import comparing

    names = [run.name.partition("-")[2] or run.name for run in found]
    states = [run.state() for run in found]
    return "\n".join(comparing.lines(states, names, *comparing.differences(states, names)))


def model(source: str) -> str:
    """A model as it is named on the command line: `last` is what the newest run has written."""
    if source != "last":
        return source
    run = runs.find("last")
    return resident.pair(run, run.state())[1]


def report(run: runs.Run, state: RunState) -> str:
    """A run's report as Markdown, of one that is going as far as it goes."""
    from engine import report as reports

    return reports.markdown(state, runs.read_json(run.path / "environment.json"))


def _help(word: str) -> str:
    use = grammar.ALIASES.get(word, word)
    commands = completion.complete("")
    if word and word not in commands:
        raise UsageError(f"{word!r} is no command", hint=did_you_mean(word, grammar.names()))
    if word and use not in STEPS:
        return f"{word}  {commands[word]}"
    entries = completion.complete(f"{use} ") if word else commands
    lead = f"{commands[use]}\n\n" if word else "Commands. A word and its keys: help prune.\n\n"
    width = max(map(len, entries), default=0)
    return lead + "\n".join(f"{name:<{width}}  {about}" for name, about in entries.items())
