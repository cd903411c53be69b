"""What can go wrong, in words a user can act on: message, where, hint and the exit code that scripts see.

Everything raised on purpose by the engine derives from `EngineError`; anything else is a bug and is reported as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

DONE, FAILED, USAGE, UNAVAILABLE, GATE_MISSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class EngineError(Exception):
    """A run that failed. `where` names the file, key or layer; `hint` the next thing to try."""

    exit_code = FAILED

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def lines(self) -> list[str]:
        """The error as lines for a terminal: what and where, then `hint:`."""
        head = f"{self.where}: {self.message}" if self.where else self.message
        return [f"error: {head}", *([f"hint: {self.hint}"] if self.hint else [])]


class UsageError(EngineError, ValueError):
    """The command or the profile asks for something that cannot be (a ValueError, so that validators may raise it)."""

    exit_code = USAGE


class Unavailable(EngineError):
    """A model, text, task or package that is not there or cannot be read."""

    exit_code = UNAVAILABLE


class Cancelled(EngineError):
    """Somebody asked the run to stop; what was finished is kept."""

    exit_code = INTERRUPTED


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a profile: the dotted key path, what, and a hint."""

    key: str
    message: str
    hint: str | None = None


class ProfileError(UsageError):
    """Everything wrong with a profile, at once."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file, self.problems = file, list(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the profile", where=file)

    def lines(self) -> list[str]:
        out = []
        for problem in self.problems:
            key = f" {problem.key}:" if problem.key else ""
            out.append(f"error: {self.file}:{key} {problem.message}")
            if problem.hint:
                out.append(f"hint: {problem.hint}")
        return out


class Several(EngineError):
    """What fails in several places, at once; who lacks nothing but what is not there is told so by the exit code."""

    def __init__(self, errors: Iterable[EngineError]) -> None:
        self.errors = list(errors)
        self.exit_code = min(error.exit_code for error in self.errors)
        super().__init__(f"{len(self.errors)} problems")

    def lines(self) -> list[str]:
        return [line for error in self.errors for line in error.lines()]


@contextmanager
def naming(key: str, value: str = "") -> Iterator[None]:
    """Errors from inside name this key of the profile as their place, and its value."""
    try:
        yield
    except EngineError as error:
        message = f"{error.message}: {value}" if value not in error.message else error.message
        raise type(error)(message, where=key, hint=error.hint) from error


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Errors from inside tell this place first, and then their own."""
    try:
        yield
    except EngineError as error:
        where = f"{place}: {error.where}" if error.where else place
        raise type(error)(error.message, where=where, hint=error.hint) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the near ones and then the full list."""
    names = sorted(known)
    return suggested(get_close_matches(word, names, n=3, cutoff=0.5), names)


def suggested(near: Iterable[str], known: Iterable[str]) -> str:
    """The hint's words: did you mean one of those, known are these."""
    asked, names = " or ".join(map(repr, near)), ", ".join(known)
    return f"{f'did you mean {asked}? ' if asked else ''}known: {names or 'none'}"
