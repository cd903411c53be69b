"""Files that are there whole or not at all: what reaches the disk before the new name does, and what a failure leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import files


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """("sync", name) and ("name", new name) in the order in which they are done."""
    order: list[tuple[str, str]] = []
    synced: dict[int, Path] = {}
    open_, replace = os.open, os.replace

    def opening(path: Path, *rest: int, **more: int) -> int:
        handle = open_(path, *rest, **more)
        synced[handle] = Path(path)
        return handle

    def replacing(old: Path, new: Path) -> None:
        replace(old, new)
        order.append(("name", Path(new).name))

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(os, "fsync", lambda handle: order.append(("sync", synced[handle].name)))
    return order


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, done: list[tuple[str, str]]) -> None:
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert done == [("sync", f".a.txt.{os.getpid()}.part"), ("name", "a.txt"), ("sync", tmp_path.name)]


def test_a_folder_is_on_disk_with_all_that_is_in_it_before_it_has_its_name(
    tmp_path: Path, done: list[tuple[str, str]]
) -> None:
    def write(part: Path) -> None:
        (part / "inner").mkdir()
        (part / "inner" / "b").write_text("b")
        (part / "a").write_text("a")

    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").write_text("old")
    files.write_folder(tmp_path / "made", write)
    assert {path.name for path in (tmp_path / "made").rglob("*")} == {"inner", "a", "b"}
    named = done.index(("name", "made"))
    part = f".made.{os.getpid()}.part"
    assert {("sync", name) for name in ("a", "b", "inner", part)} <= set(done[:named])
    assert done[named:] == [("name", "made"), ("sync", tmp_path.name)]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / "half" if part.is_dir() else part).write_text("half")
        raise OSError("no room")

    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("old")
    for write, name in ((files.write_with, "file"), (files.write_folder, "folder")):
        with pytest.raises(OSError, match="no room"):
            write(tmp_path / name, fail)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "kept"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "kept").read_text() == "old"


def test_what_another_process_has_made_by_then_is_spared(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def write(part: Path) -> None:
        (part / "mine").write_text("mine")
        made.mkdir()
        (made / "theirs").write_text("theirs")

    files.write_folder(made, write, spare=(made / "theirs").is_file)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "theirs"]


def test_what_nobody_has_written_at_for_a_day_goes(tmp_path: Path) -> None:
    for name in (".a.1.part", ".b.2.old", ".c.3.part", "d", ".d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
        if name != ".c.3.part":
            os.utime(tmp_path / name, (1.0, 1.0))
    (tmp_path / ".e.4.part").write_text("half")
    os.utime(tmp_path / ".e.4.part", (1.0, 1.0))
    files.remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.3.part", ".d", "d"]
