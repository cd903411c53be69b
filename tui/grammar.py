"""The words of the command line, in the app (`:`) and in `compress-tui shell`: what a line means, how it may go on.

    prune 0.6 criterion=sparsegpt > recover      steps on the model at hand; one that changes weights is exported in the end
    eval sst2 rows=100                           a key of the step, or one of the profile: seed=1, calibration.samples=16
    run edge step.0.sparsity=0.5                 a profile with overrides
    ask "text"                                   the dense and the compressed model's answers, side by side

It turns a line into one of the commands below and does nothing itself; the profile's own checker says what is wrong.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import Problem, ProfileError, UsageError, did_you_mean
from engine.registry import STEPS

if TYPE_CHECKING:
    from engine.profile import Profile

ALIASES = {"eval": "evaluate"}
FIRST = {
    "prune": "sparsity",
    "evaluate": "tasks",
    "sensitivity": "criterion",
    "select_prompt": "task",
    "adjust_prompt": "task",
    "embed_prompt": "task",
    "export": "format",
}
"""the key of a step that a bare word stands for"""
NUMBERS = re.compile(r"[-+.\de]+(,[-+.\de]+)*")
"""a list of numbers as it is typed"""
OTHER = {
    "run": "Run a profile: a shipped name or a file, then key.path=value",
    "queue": "The same, when the runs before it have ended",
    "ask": "Ask the dense and the compressed model, answers side by side",
    "model": "Work on another model: demo, a folder, a .gguf file, or last for the last run's result",
    "attach": "Watch a run: its name, the id at its end, or last",
    "compare": "Two runs' figures and winning prompts, side by side",
    "report": "Show a run's report",
    "help": "What there is, or the keys of a step",
    "quit": "Leave",
}


@dataclass(frozen=True)
class Start:
    """Start a checked profile as a run, or queue it."""

    profile: Profile
    queued: bool = False


@dataclass(frozen=True)
class Ask:
    """Ask both models `text`, for at most `tokens` tokens."""

    text: str
    tokens: int = 128


@dataclass(frozen=True)
class Simple:
    """One of the other words with its argument ("" without one)."""

    word: str
    argument: str


Command = Start | Ask | Simple


def parse(line: str, source: str) -> Command:
    """What a line means; `source` is the model at hand. Raises UsageError, ProfileError and Unavailable."""
    words = split(line)
    word = ALIASES.get(words[0], words[0]) if words else ""
    if word in STEPS:
        return Start(steps(words, source))
    if word in ("run", "queue"):
        return Start(_profile(word, words[1:]), queued=word == "queue")
    if word == "ask":
        return _ask(words[1:])
    if word in OTHER:
        return Simple(word, " ".join(words[1:]))
    raise UsageError(f"{word!r} is no command" if word else "nothing to do", hint=did_you_mean(word, names()))


def names() -> list[str]:
    """All first words."""
    return [*STEPS, *ALIASES, *OTHER]


def split(line: str) -> list[str]:
    """The words of a line, quotes taken off. Raises UsageError for a quote that is not closed."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read the line: {error}".lower()) from error


def steps(words: Sequence[str], source: str) -> Profile:
    """The profile of steps separated by >; what they change is exported, so that it can be asked and inspected."""
    from engine import profile

    parts = [part for part in " ".join(map(shlex.quote, words)).split(" '>' ") if part]
    uses: list[str] = []
    overrides: list[str] = []
    for part in parts:
        name, *values = shlex.split(part)
        use = ALIASES.get(name, name)
        if use not in STEPS:
            raise UsageError(f"unknown step {name!r}", hint=did_you_mean(name, STEPS))
        overrides += [_override(len(uses), use, value) for value in values]
        uses.append(use)
    if any(STEPS[use].stage for use in uses) and "export" not in uses:
        uses.append("export")
    tables = "".join(f'[[step]]\nuse = "{use}"\n' for use in uses)
    text = f'name = "{uses[0]}"\n[model]\nsource = {json.dumps(source)}\n{tables}'
    try:
        return profile.parse(text, "command", overrides)
    except ProfileError as error:
        raise ProfileError("command", [_shorter(problem, len(uses)) for problem in error.problems]) from error


def options_of(use: str) -> Any:
    """The options model of a step, by its name or alias."""
    return STEPS[ALIASES.get(use, use)].options_model()


def _override(index: int, use: str, value: str) -> str:
    """A word of the line as an override of the profile: a bare one is the step's first key."""
    key, equals, text = value.partition("=")
    fields = options_of(use).model_fields
    if not equals:
        if use not in FIRST:
            raise UsageError(f"{value!r} is no key=value", where=use, hint=f"keys: {', '.join(keys(use))}")
        key, text = FIRST[use], value
    if key.partition(".")[0] not in fields:
        from engine.profile import Profile

        return f"{key}={text}" if key.partition(".")[0] in Profile.model_fields else f"step.{index}.{key}={text}"
    kind = str(fields[key].annotation) if key in fields else ""
    if "list[str]" in kind and not text.startswith("["):
        text = json.dumps(text.split(","))
    elif "list[" in kind and NUMBERS.fullmatch(text):
        text = f"[{text}]"
    return f"step.{index}.{key}={text}"


def keys(use: str) -> list[str]:
    """The keys of a step."""
    return [name for name in options_of(use).model_fields if name != "use"]


def _shorter(problem: Problem, count: int) -> Problem:
    """A problem with the key as it was typed: without the step's number where there is one step."""
    key = problem.key
    if count <= 2:
        key = key.removeprefix("step.0.")
    return Problem(key, problem.message, problem.hint)


def _profile(word: str, words: Sequence[str]) -> Profile:
    from engine import profile

    if not words:
        raise UsageError(f"{word} needs a profile", hint=f"{word} demo")
    return profile.load(words[0], words[1:])


def _ask(words: Sequence[str]) -> Ask:
    tokens = [word for word in words if word.startswith("tokens=")]
    text = " ".join(word for word in words if word not in tokens)
    number = tokens[-1].partition("=")[2] if tokens else "128"
    if not text or not number.isdecimal() or not int(number):
        raise UsageError("ask needs a text", hint='ask "Name three colours." tokens=60')
    return Ask(text, int(number))
