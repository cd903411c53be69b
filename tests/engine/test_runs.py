"""Run folders: made whole or refused, a crash loses one line at most, one process at a time works on one."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import crashes, runs
from engine import events as ev
from engine.errors import EngineError, Unavailable, UsageError
from engine.eventfile import EventReader, EventWriter
from engine.owners import Owner, started
from engine.runs import Run
from tui.follow import glance

Record = Callable[..., Run]
STARTED = ev.RunStarted(run="r", profile="p", source="demo", steps=["prune"], seq=1, time=1.0)


@pytest.fixture
def run() -> Run:
    return runs.create("small", 'name = "small"\n')


def owned(run: Run, **changes: object) -> Owner:
    """Writes a state.json like this process's with some facts changed."""
    owner = replace(Owner.this_process(), **changes)
    (run.path / "state.json").write_text(json.dumps(asdict(owner)))
    return owner


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be signalled, in a group of its own."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


# Folders


def test_a_new_run_has_its_profile_and_a_telling_name(run: Run, runs_folder: Path) -> None:
    assert run.path.parent == runs_folder
    assert "-small-" in run.name
    assert run.profile_file.read_text() == 'name = "small"\n'
    assert run.checkpoints.is_dir()
    assert run.artifacts.is_dir()
    assert run.state().status == "empty"


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        runs.create("small", "", folder)
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]


def test_an_unwritable_place_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot write the run folder") as caught:
        runs.create("small", "", tmp_path / "file" / "run")
    assert str(tmp_path) in (caught.value.where or "")


def test_runs_are_found_by_folder_name_id_and_last(record: Record) -> None:
    old = record([], "20230101T000000-small-aaaa")
    new = record([], "20240101T000000-small-bbbb")
    assert runs.list_runs() == [new, old]
    assert runs.find("aaaa") == runs.find(old.name) == runs.find(str(old.path)) == old
    assert runs.find("last") == new


def test_a_run_that_is_not_there_has_a_hint(record: Record) -> None:
    with pytest.raises(Unavailable) as caught:
        runs.find("last")
    assert "compress-tui run" in (caught.value.hint or "")
    record([], "20230101T000000-small-aaaa")
    with pytest.raises(Unavailable) as caught:
        runs.find("20230101T000000-small-aaab")
    assert "did you mean" in (caught.value.hint or "")


def test_a_finished_run_can_be_removed_and_a_living_one_not(run: Run) -> None:
    owned(run)
    with pytest.raises(UsageError, match="still going"):
        runs.remove(run)
    owned(run, released=True)
    runs.remove(run)
    assert not run.path.exists()


# Events on disk


def test_events_are_numbered_stamped_and_on_disk_at_once(run: Run) -> None:
    seen: list[ev.Event] = []
    writer = EventWriter(run.events_file, seen.append)
    for text in ("a", "b"):
        writer(ev.Log(message=text))
    read = run.events()
    writer.close()
    assert read == seen
    assert [event.seq for event in read] == [1, 2]
    assert all(event.time > 1e9 for event in read)


@given(st.binary(max_size=40).filter(lambda tail: b"\n" not in tail))
def test_a_torn_tail_is_cut_off_and_writing_goes_on(tail: bytes) -> None:
    run = runs.create("torn", "")
    line = ev.to_json(ev.Log(message="whole", seq=4)).encode() + b"\n"
    run.events_file.write_bytes(line + tail)
    writer = EventWriter(run.events_file)
    writer(ev.Log(message="next"))
    writer.close()
    assert [(event.seq, event.message) for event in run.events()] == [(4, "whole"), (5, "next")]
    assert run.events_file.read_bytes().startswith(line + b'{"schema"')


def test_nothing_is_cut_where_what_is_there_cannot_be_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = "".join(ev.to_json(ev.Log(message="x" * 100, seq=i + 1)) + "\n" for i in range(50))
    run.events_file.write_text(before)
    plain, reads = Path.open, list[int]()

    def failing(self: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        if self == run.events_file and mode == "rb":
            reads.append(1)
            if len(reads) == 2:
                raise OSError(errno.ESTALE, "Stale file handle")
        return plain(self, mode, *given, **named)

    monkeypatch.setattr("engine.eventfile.CHUNK", 1000)
    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(OSError, match="Stale"):
        EventWriter(run.events_file)
    reader = EventReader(run.events_file)
    reads.clear()
    assert len(list(reader.rest())) < 50, "who only looks on waits for the next look"
    assert run.events_file.read_text() == before
    EventWriter(run.events_file).close()
    assert run.events_file.read_text() == before


def test_text_that_is_not_unicode_is_written_all_the_same(run: Run) -> None:
    writer = EventWriter(run.events_file)
    writer(ev.Log(message="half \ud83d a smile"))
    writer.close()
    assert run.events()[0].message == "half \ud83d a smile"


@given(st.lists(st.integers(1, 30), max_size=40))
def test_reading_in_any_pieces_gives_every_event_once(cuts: list[int]) -> None:
    run = runs.create("pieces", "")
    data = b"".join(ev.to_json(ev.Log(message=f"é{i}", seq=i + 1)).encode() + b"\n" for i in range(6))
    reader, read = EventReader(run.events_file), []
    for end in [sum(cuts[: i + 1]) for i in range(len(cuts))] + [len(data)]:
        run.events_file.write_bytes(data[:end])
        read += reader.read()
    assert [event.seq for event in read] == [1, 2, 3, 4, 5, 6]


@given(st.integers(1, 300))
def test_reading_with_a_limit_gives_every_event_once(limit: int) -> None:
    run = runs.create("limited", "")
    run.events_file.write_text("".join(ev.to_json(ev.Log(message="x" * 20 * i, seq=i)) + "\n" for i in range(1, 7)))
    reader, read = EventReader(run.events_file), []
    while piece := reader.read(limit):
        read += piece
    assert [event.seq for event in read] == [1, 2, 3, 4, 5, 6]


def test_lines_that_are_no_events_are_skipped(run: Run) -> None:
    good = ev.to_json(ev.Log(message="good", seq=1))
    run.events_file.write_text(f'\0\0\0\n{{"kind": "log", "seq": null}}\n[]\n{good}\n')
    assert [event for event in run.events() if isinstance(event, ev.Log)] == [ev.Log(message="good", seq=1)]


# Who works on it


def test_this_process_is_alive_and_another_start_time_or_boot_is_not(run: Run) -> None:
    owner = Owner.this_process()
    assert owner.alive()
    assert not replace(owner, process_started=owner.process_started - 100).alive()
    assert not replace(owner, boot="another").alive()
    assert not replace(owner, released=True).alive()


def test_on_another_host_the_heartbeat_decides() -> None:
    owner = replace(Owner.this_process(), host="elsewhere.example")
    assert owner.alive()
    assert not replace(owner, heartbeat=time.time() - 61).alive()


def test_a_killed_worker_is_dead_also_as_a_zombie(run: Run) -> None:
    work = "with runs.lock(runs.find(sys.argv[1])): print('at work', flush=True); input()"
    code = f"import sys\nfrom engine import runs\n{work}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "at work\n"
    assert run.alive()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not run.alive()
    process.communicate()
    assert not run.alive()


def test_a_dead_worker_without_a_last_word_has_crashed(record: Record, story: list[ev.Event]) -> None:
    run = record(story[:12])
    owned(run, process_started=1.0)
    run.log_file.write_text("Fatal Python error: Segmentation fault\n")
    state = run.state()
    assert state.status == "failed"
    assert state.failure is not None
    assert state.failure.where == "crashed"
    assert "Segmentation fault" in state.failure.message
    assert "--resume" in (state.failure.hint or "")
    assert [step.status for step in state.steps.values()][:2] == ["done", "failed"]


@pytest.mark.parametrize("written", [None, b"", b'{"schema": 1, "ki'])
def test_a_worker_that_died_before_its_first_event_has_crashed(written: bytes | None, run: Run) -> None:
    assert run.state().status == "empty"
    if written is not None:
        run.events_file.write_bytes(written)
    owned(run, process_started=1.0)
    assert run.state().failure is not None
    assert run.state().failure.where == "crashed"
    assert "--resume" in (run.state().failure.hint or "")
    assert glance(run).status == "crashed"
    owned(run, process_started=1.0, released=True)
    assert run.state().status == "empty"


@pytest.mark.parametrize(("source", "more"), [("demo", ""), ("python:mine:make", " --allow-code")])
def test_what_goes_on_with_a_run_lets_its_model_run_code_where_it_did(source: str, more: str) -> None:
    run = runs.create("mine", f'[model]\nsource = "{source}"\n')
    assert run.resumed_by == f"compress-tui run --resume --run-dir {run.path}{more}"
    run.profile_file.write_text("[model")
    assert run.resumed_by == f"compress-tui run --resume --run-dir {run.path}"


@pytest.mark.parametrize("changed", ["log", "boot"])
def test_the_words_and_counts_of_other_workers_tell_nothing(
    record: Record, story: list[ev.Event], changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, kills = record(story[:12]), crashes.memory_kills() or 0
    earlier = "torch.OutOfMemoryError: CUDA out of memory\n"
    run.log_file.write_text(earlier)
    monkeypatch.setattr(crashes, "memory_kills", lambda: kills + 1)
    if changed == "boot":
        owned(run, boot="another", memory_kills=kills, log_from=len(earlier))
    else:
        owned(run, process_started=1.0, log_from=len(earlier))
    failure = run.state().failure
    assert failure is not None
    assert "without a word" in failure.message
    assert "CUDA" not in failure.message


def test_a_native_crash_is_told_from_above_long_stacks(record: Record, story: list[ev.Event]) -> None:
    run = record(story[:12])
    stack = "".join(f'  File "module.py", line {line} in forward\n' for line in range(200))
    run.log_file.write_text(f"Fatal Python error: Segmentation fault\n\nThread 0x1 (most recent call first):\n{stack}")
    owned(run, process_started=1.0)
    failure = run.state().failure
    assert failure is not None
    assert "native code: segmentation fault" in failure.message
    assert failure.message.count("\n") == 10


def test_a_living_worker_has_not_crashed_and_a_finished_run_neither(record: Record, story: list[ev.Event]) -> None:
    run = record(story[:12])
    owned(run)
    assert run.state().status == "running"
    run = record(story, "20231114T221320-small-cd34")
    owned(run, process_started=1.0)
    assert run.state().status == "done"


def _hold(path: str, ready: object, go: object) -> None:
    with runs.lock(Run(Path(path))):
        ready.set()
        go.wait(30)


def test_two_processes_cannot_work_on_one_run(run: Run) -> None:
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(run.path), ready, go))
    other.start()
    assert ready.wait(30)
    with pytest.raises(UsageError, match="another process is working on this run"), runs.lock(run):
        pass
    go.set()
    other.join(30)
    with runs.lock(run):
        assert run.alive()
    assert not run.alive()


def test_a_heartbeat_is_kept_also_past_a_disk_that_fails_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HEARTBEAT", 0.01)
    beat, beats = runs._beat, list[int]()

    def failing(*given: Any, **named: Any) -> None:
        beats.append(1)
        if len(beats) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        beat(*given, **named)

    monkeypatch.setattr(runs, "_beat", failing)
    with runs.lock(run):
        first, deadline = run.owner(), time.monotonic() + 10
        assert first
        while (now := run.owner()) and now.heartbeat == first.heartbeat:
            assert time.monotonic() < deadline


def test_a_signal_reaches_the_worker(run: Run, sleeper: subprocess.Popen[bytes]) -> None:
    import psutil

    owned(run, pid=sleeper.pid, process_started=started(psutil.Process(sleeper.pid)))
    runs.send_signal(run, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM
    with pytest.raises(UsageError, match="nobody is working"):
        runs.send_signal(run)


def test_a_signal_never_reaches_another_process_with_the_same_pid(run: Run, sleeper: subprocess.Popen[bytes]) -> None:
    owned(run, pid=sleeper.pid, process_started=1.0)
    with pytest.raises(UsageError, match="nobody is working"):
        runs.send_signal(run, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_run_on_another_host_cannot_be_signalled(run: Run) -> None:
    owned(run, host=f"not-{socket.gethostname()}")
    with pytest.raises(UsageError, match="is on host"):
        runs.send_signal(run)


# Following


def test_following_a_finished_run_gives_its_events(record: Record, story: list[ev.Event]) -> None:
    assert list(runs.follow(record(story))) == story


def test_following_ends_with_the_crash_of_a_dead_worker(record: Record, story: list[ev.Event]) -> None:
    run = record(story[:12])
    owned(run, process_started=1.0)
    *told, last = runs.follow(run)
    assert told == story[:12]
    assert isinstance(last, ev.RunFailed)
    assert last.where == "crashed"


def test_following_a_run_that_nobody_starts_ends(run: Run) -> None:
    (last,) = runs.follow(run, poll=0.01, patience=0.05)
    assert isinstance(last, ev.RunFailed)
    assert "nobody has started" in last.message


def test_following_sees_what_is_written_meanwhile(run: Run) -> None:
    owned(run)
    writer = EventWriter(run.events_file)
    writer(replace(STARTED))
    following = runs.follow(run, poll=0.01)
    assert next(following).kind == "run_started"
    writer(ev.Log(message="now"))
    assert next(following).kind == "log"
    writer(ev.RunFinished(seconds=1.0))
    assert [event.kind for event in following] == ["run_finished"]
    writer.close()


def test_a_run_elsewhere_is_named_by_its_folder(tmp_path: Path) -> None:
    here, elsewhere = runs.create("here", ""), runs.create("elsewhere", "", tmp_path / "a folder")
    assert here.attached_by == f"compress-tui attach {here.name}"
    assert elsewhere.attached_by == f"compress-tui attach '{tmp_path}/a folder'"
    for run in (here, elsewhere):
        assert runs.find(run.reference) == run
