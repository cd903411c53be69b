"""The file of a run's events: one line an event, appended to by its worker and read by whoever looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine import events as ev

CHUNK = 1 << 20
"""bytes of events that are read at once"""


class EventWriter:
    """Appends events to a run's file, numbered and stamped; what a crash left half-written is cut off first.

    Raises OSError where what is there cannot be read to its end: then nothing is cut.
    """

    def __init__(self, file: Path, also: Callable[[ev.Event], None] | None = None) -> None:
        self._also = also
        reader = EventReader(file, patient=False)
        self._seq = max((event.seq for event in reader.rest()), default=0)
        self._handle = file.open("ab")
        self._handle.truncate(reader.offset)

    def __call__(self, event: ev.Event) -> None:
        self._seq += 1
        object.__setattr__(event, "seq", self._seq)
        object.__setattr__(event, "time", round(time.time(), 3))
        self._handle.write(ev.to_json(event).encode("utf-8", "backslashreplace") + b"\n")  # lone surrogates
        self._handle.flush()
        if self._also:
            self._also(event)

    def close(self) -> None:
        self._handle.close()


class EventReader:
    """Reads the events that were added since the last call; a line without its newline waits for the next call. A `patient`
    one takes a file that cannot be read for one without news.
    """

    def __init__(self, path: Path, *, patient: bool = True) -> None:
        self._path, self._patient = path, patient
        self.offset = 0

    def read(self, limit: int = -1) -> list[ev.Event]:
        """All new complete events, or those of the next `limit` bytes (more, when a single line is longer)."""
        try:
            with self._path.open("rb") as handle:
                handle.seek(self.offset)
                data = handle.read(limit)
                if limit > 0 and b"\n" not in data:
                    data += handle.readline()
        except OSError as error:  # not there yet, gone, or a network home that does not answer: the next look may
            if self._patient or isinstance(error, FileNotFoundError):
                return []
            raise
        complete = data[: data.rfind(b"\n") + 1]
        self.offset += len(complete)
        return [event for line in complete.splitlines() if (event := _parse(line))]

    def rest(self) -> Iterator[ev.Event]:
        """All new complete events, a part of the file in memory at a time."""
        begin = -1
        while self.offset > begin:
            begin = self.offset
            yield from self.read(CHUNK)


def _parse(line: bytes) -> ev.Event | None:
    try:
        return ev.from_json(line)
    except (ValueError, TypeError):
        return None
