"""What the command line writes: data on stdout, narration and errors on stderr, colour only where a terminal shows it.

The bytes are the same on a terminal and in a pipe, colour aside; this module alone decides on colour and knows what to
do when the reader of a pipe has gone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state import RunState

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
GAP = "  "
GONE = (errno.EPIPE, errno.EIO)
"""what writing to a pipe without a reader, and to a terminal that has hung up, ends with"""


class ReaderGone(Exception):
    """Nobody reads our stdout any more: `compress-tui runs | head -1`, or a terminal that was closed."""


def data(text: str = "") -> None:
    """One line (or several) of data on stdout. Raises ReaderGone."""
    piece(f"{text}\n")


def piece(text: str) -> None:
    """A part of a line of data. Raises ReaderGone."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        if error.errno not in GONE:
            raise
        _discard(sys.stdout)
        raise ReaderGone from error


def note(text: str = "") -> None:
    """A line of narration on stderr; when it can't be written, the work goes on all the same."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def error(problem: EngineError) -> None:
    """An error and its hints on stderr, each on a line of its own."""
    for line in problem.lines():
        note(paint_prefix(line))


def paint_prefix(line: str) -> str:
    """`error:`, `warning:` or `hint:` at the start of a line, in its colour."""
    colours = {"error:": RED, "warning:": YELLOW, "hint:": CYAN}
    prefix, blank, rest = line.partition(" ")
    return paint(prefix, colours[prefix], sys.stderr) + blank + rest if prefix in colours else line


def paint(text: str, code: str, stream: TextIO | None = None) -> str:
    """`text` in a colour where `stream` (stdout by default) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{code}m{text}\x1b[0m" if shown else text


def plain(text: str) -> str:
    """`text` on one line, with control characters (line breaks, escapes) written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> list[str]:
    """Aligned lines, headers first; the columns named in `right` are aligned right. Never cut."""
    body = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *body]) for i in range(len(headers))]
    numeric = set(right)

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if header in numeric else cell.ljust(width)
            for cell, width, header in zip(cells, widths, headers, strict=True)
        )
        return GAP.join(padded).rstrip()

    return [paint(line(headers), BOLD), *map(line, body)]


def listing(entries: Mapping[str, str]) -> list[str]:
    """Names with a line on each, aligned; no headers."""
    width = max(map(len, entries), default=0)
    return [f"{name:<{width}}{GAP}{plain(text)}".rstrip() for name, text in entries.items()]


def status(state: RunState) -> str:
    """A run's state as glyph and word."""
    if state.status == "done":
        return "✓ done" if state.exit_code == 0 else "▲ gate missed"
    if state.status == "failed":
        return "✗ crashed" if state.failure and state.failure.where == "crashed" else "✗ failed"
    known = {"queued": "○ queued", "running": "▶ running", "cancelled": "■ cancelled"}
    return known.get(state.status, "… waiting")


def settle() -> None:
    """Flushes both streams at the end, quietly: what could not be written has been told."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Sends what is still buffered, and what follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
