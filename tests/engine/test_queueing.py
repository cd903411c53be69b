"""The queue: one run at a time, in the order of queueing; whoever dies or is cancelled holds up nobody."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine import events as ev
from engine import queueing, runs, worker
from engine.errors import INTERRUPTED, Cancelled, UsageError
from engine.eventfile import EventWriter
from engine.owners import Owner
from engine.runs import Run

PROFILE = 'name = "small"\n[model]\nsource = "demo"\n'


def made(name: str) -> Run:
    return runs.create(name, PROFILE)


def owned(run: Run, **changes: object) -> Run:
    """The run with this process at work on it."""
    (run.path / "state.json").write_text(json.dumps(asdict(replace(Owner.this_process(), **changes))))
    return run


def waited(run: Run, heard: Callable[[list[str]], object] = lambda ahead: None, stop: bool = False) -> list[list[str]]:
    """Waits for a run's turn; what it was told, each time after which `heard` may change the world."""
    told: list[list[str]] = []

    def tell(ahead: list[str]) -> None:
        told.append(ahead)
        heard(ahead)

    queueing.wait(run, tell, lambda: stop, poll=0)
    return told


def test_a_run_that_is_not_queued_waits_for_nobody() -> None:
    owned(made("at-work"))
    assert waited(made("small")) == []


def test_it_waits_for_those_at_work_and_for_those_queued_before(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, done, last = owned(made("at-work")), owned(made("done"), released=True), made("last")
    first, second, never = owned(made("first")), owned(made("second")), made("never")
    clock = iter(range(100))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    for run in (first, never, second, last):  # nobody took `never` up
        queueing.join(run)
    assert [run.name for run in queueing.ahead(last)] == [at_work.name, first.name, second.name]
    assert queueing.ahead(first) == [at_work]
    (first.path / queueing.MARK).write_text("")  # its text was lost
    assert queueing.ahead(second) == [at_work, first]
    assert done.name not in {run.name for run in queueing.ahead(last)}


def test_a_run_changes_places_with_its_neighbour_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, *waiting = (owned(made(name)) for name in ("at-work", "first", "second", "third"))
    clock = iter(range(100))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    for run in waiting:
        queueing.join(run)
    first, second, third = waiting
    assert queueing.move(third, -1) == second
    assert queueing.ahead(second) == [at_work, first, third]
    assert queueing.move(third, -1) == first
    assert queueing.move(third, -1) is None
    assert queueing.ahead(first) == [at_work, third]
    assert queueing.move(first, 1) == second
    assert [queueing.ahead(run) for run in (third, second, first)] == [
        [at_work],
        [at_work, third],
        [at_work, third, second],
    ]
    assert queueing.move(first, 1) is None
    with pytest.raises(UsageError, match="does not wait"):
        queueing.move(at_work, -1)
    owned(second, process_started=1.0)  # killed
    with pytest.raises(UsageError, match="does not wait"):
        queueing.move(second, -1)


@pytest.mark.parametrize("at_once", [False, True])
def test_any_moves_leave_the_order_that_a_list_would_have(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("time.time", lambda: 5.0 if at_once else float(next(clock)))
    waiting = [owned(made(name)) for name in ("a", "b", "c", "d")]
    for run in waiting:
        queueing.join(run)
    last = owned(made("last"))
    (last.path / queueing.MARK).write_text("1000.0")
    drawn = random.Random(0)
    expected = queueing.ahead(last)
    for _ in range(60):
        run, by = drawn.choice(waiting), drawn.choice([-1, 1])
        place = expected.index(run)
        if 0 <= place + by < len(expected):
            expected[place], expected[place + by] = expected[place + by], expected[place]
            assert queueing.move(run, by) == expected[place]
        assert queueing.ahead(last) == expected


def test_its_turn_comes_when_the_last_before_it_is_dead_or_done() -> None:
    at_work, first, last = owned(made("at-work")), owned(made("first")), owned(made("last"))
    queueing.join(first)
    queueing.join(last)

    def go_on(ahead: list[str]) -> None:
        if len(ahead) == 2:
            owned(at_work, process_started=1.0)  # killed
        else:
            owned(first, released=True)

    assert waited(last, go_on) == [[at_work.name, first.name], [first.name]]
    assert not (last.path / queueing.MARK).exists()
    assert queueing.ahead(first) == [last], "who is at work comes before who waits"


def test_one_alone_is_at_work_at_once() -> None:
    run = made("small")
    queueing.join(run)
    owned(made("elsewhere"), host="another")
    assert waited(owned(run)) == []


def test_a_run_folder_behind_a_link_does_not_wait_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("COMPRESS_TUI_RUNS", str(tmp_path / "link"))
    run = owned(made("small"))
    queueing.join(run)
    assert waited(run) == []


def test_a_cancelled_run_leaves_the_queue() -> None:
    owned(made("at-work"))
    run = made("small")
    queueing.join(run)
    with pytest.raises(Cancelled):
        waited(run, stop=True)
    assert not (run.path / queueing.MARK).exists()


def test_only_runs_of_the_runs_folder_can_be_queued(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in the runs folder"):
        queueing.join(runs.create("small", PROFILE, tmp_path / "elsewhere"))


def test_a_worker_says_that_it_waits_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, run = owned(made("at-work")), made("small")
    queueing.join(run)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.queueing.time.sleep", interrupted)
    assert worker.execute(run) == INTERRUPTED
    queued, cancelled = run.events()
    assert isinstance(queued, ev.RunQueued)
    assert (queued.profile, queued.source, queued.ahead) == ("small", "demo", [at_work.name])
    assert isinstance(cancelled, ev.RunCancelled)
    assert not (run.path / queueing.MARK).exists()
    assert run.state().ahead == []


def test_a_queued_run_whose_worker_is_gone_has_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = owned(made("small"))
    writer = EventWriter(run.events_file)
    writer(ev.RunQueued(run=run.name, profile="small", source="demo", steps=[], ahead=["other"]))
    writer.close()
    assert run.state().status == "queued"
    owned(run, process_started=1.0)
    assert run.state().status == "failed"
    assert [type(event) for event in runs.follow(run)] == [ev.RunQueued, ev.RunFailed]
