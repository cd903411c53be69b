"""Several processes that train one model: what they come to, what is written, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from fixtures.killing import forks, kill_9
from fixtures.models import TEXT, save, subject
from fixtures.training import MEASURED, check_at, weights
from fixtures.workspaces import workspace
from safetensors.torch import load_file
from test_loop import PACE, loop
from torch import nn

from engine import events as ev
from engine import runs
from engine.errors import EngineError, UsageError
from engine.preflight import check_processes
from engine.runs import Run
from engine.training import peer
from engine.training.together import Together, grouped, store_in
from engine.worker import execute
from engine.workspace import Workspace

PRUNE = '[[step]]\nuse = "prune"\ncriterion = "magnitude"\npattern = "2:4"\n'
TRAIN = """[[step]]
use = "{use}"
steps = 4
batch = {batch}
micro_batch = 1
held_out = 4
check_every = 2
save_every = 2
compute = "float32"
learning_rate = 1e-3
"""
EXPORT = '[[step]]\nuse = "export"\nreference = false\n'


def begun(folder: Path, name: str, processes: int, steps: str) -> Run:
    (folder / "text.txt").write_text(TEXT)
    if not (folder / "model").is_dir():
        save("llama", folder / "model", num_hidden_layers=4)
    text = f"processes = {processes}\n" + MEASURED.format(folder=folder, dtype="float32") + PRUNE + steps + EXPORT
    return runs.create("together", text, folder / name)


def every_training(batch: int) -> str:
    """Each behind the others, so that the second process takes over what they came to; rounding moves no mask here."""
    methods = {
        "distill": 'student = "every-second-block"\nanswers = 0.5\ntop = 16\n',
        "sparse_train": 'method = "gradual"\npattern = "2:4"\nupdate_every = 1\n',
        "recover": 'method = "lora"\nrank = 2\n',
    }
    return "".join(TRAIN.format(use=use, batch=batch) + more for use, more in methods.items())


def test_two_processes_come_to_what_one_with_the_doubled_batch_does(tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        run = begun(tmp_path, f"of-{processes}", processes, every_training(4 // processes))
        assert execute(run) == 0, run.state().failure
        found.append(run)
    one, two = found
    ours, theirs = (load_file(run.artifacts / "model" / "model.safetensors") for run in found)
    for name, weight in ours.items():
        assert torch.equal(weight == 0, theirs[name] == 0), name
        assert float((theirs[name] - weight).norm()) < 1e-4 * float(weight.norm()), name
    told = [[event for event in run.events() if isinstance(event, ev.LossMeasured)] for run in found]
    assert [(e.step, e.done, e.part, e.best) for e in told[0] if e.part == "held out"] == [
        (e.step, e.done, e.part, e.best) for e in told[1] if e.part == "held out"
    ]
    files = [sorted(str(f.relative_to(run.path)) for f in run.path.rglob("*") if f.is_file()) for run in found]
    assert files[0] == files[1], "nothing is written by the others"
    assert [event.seq for event in two.events()] == list(range(1, len(two.events()) + 1))
    assert one.state().steps[1].summary["held_out_after"] == pytest.approx(
        two.state().steps[1].summary["held_out_after"], rel=1e-4
    )


def others(run: Run) -> list[psutil.Process]:
    """The other processes of the run's training."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "engine.training.peer" in words and str(run.path) in words:
            found.append(process)
    return found


def when(done: int, act: Callable[[], None]) -> Callable[[ev.Event], None]:
    def also(event: ev.Event) -> None:
        if check_at(done)(event):
            act()

    return also


@forks
def test_whoever_ends_the_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """A process that dies, a run that is cancelled, a first process that is killed: one after the other."""
    steps = TRAIN.format(use="finetune", batch=2).replace("steps = 4", "steps = 8")
    whole, broken = (begun(tmp_path, name, 2, steps) for name in ("whole", "broken"))
    assert execute(whole) == 0, whole.state().failure

    def kill_the_other() -> None:
        [other] = others(broken)
        other.kill()

    assert execute(broken, also=when(2, kill_the_other)) == 1
    failure = broken.state().failure
    assert failure is not None
    assert "process 1 of the training was killed from outside: signal 9" in failure.message
    assert failure.hint
    assert not others(broken)
    assert execute(broken, also=when(4, lambda: os.kill(os.getpid(), signal.SIGINT))) == 130
    assert not others(broken)
    kill_9(broken, check_at(6))
    assert not psutil.wait_procs(others(broken), timeout=30)[1], "they end with the first"
    assert execute(broken) == 0, broken.state().failure
    assert weights(broken) == weights(whole)


def test_a_process_that_cannot_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path, "run", 2, TRAIN.format(use="finetune", batch=2))

    def lose(event: ev.Event) -> None:
        if isinstance(event, ev.Log) and "load the model" in event.message:
            (tmp_path / "model" / "config.json").unlink()

    assert execute(run, also=lose) == 1
    failure = run.state().failure
    assert failure is not None
    assert "process 1 of the training" in failure.message
    assert "no config.json in this folder" in failure.message


def both(folder: Path, work: Callable[[Together, bool], Any]) -> Any:
    """Does it in two processes; returns what it comes to in the first."""
    space = workspace(folder / "run", subject("llama"))
    space.profile = space.profile.model_copy(update={"processes": 2})

    def at(rank: int) -> Any:
        with grouped(space, store_in(folder / "meeting", rank, 2), rank):
            return work(Together(rank, 2), rank == 0)

    other = multiprocessing.get_context("fork").Process(target=at, args=(1,), daemon=True)
    other.start()
    try:
        found = at(0)
        other.join(30)
        assert other.exitcode == 0
    finally:
        other.kill()
    return found


@forks
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_shares_of_a_batch_add_up_to_it(tmp_path: Path, batch: int) -> None:
    """Also of a batch that leaves a process without any."""
    pace = replace(PACE, batch=batch, micro=2)
    alone = loop(tmp_path / "a", pace)
    found = alone.run()

    def work(peers: Together, first: bool) -> Any:
        made = loop(tmp_path / "b", pace)
        made.peers = peers
        return made.run(), made.weights[0].detach(), made.listener.steps

    standing, weight, steps = both(tmp_path, work)
    torch.testing.assert_close(weight, alone.weights[0].detach(), rtol=1e-4, atol=1e-5)
    assert (standing.done, standing.best_at) == (found.done, found.best_at)
    assert [loss for _, loss in steps] == pytest.approx([loss for _, loss in alone.listener.steps], rel=1e-3)


@forks
def test_memory_that_runs_out_in_one_process_halves_what_goes_through_in_all(tmp_path: Path) -> None:
    pace, plain = replace(PACE, micro=2), loop(tmp_path / "a")
    plain.run()

    def work(peers: Together, first: bool) -> Any:
        made = loop(tmp_path / "b", pace)
        made.peers = peers

        def fail(calls: int) -> None:
            if calls == 3 and not first:
                raise torch.OutOfMemoryError("CUDA out of memory")

        made.objective.failing = fail
        return made.run().micro, made.weights[0].detach(), made.listener.warnings

    micro, weight, warnings = both(tmp_path, work)
    assert micro == 1
    assert "1 instead of 2" in warnings[0]
    torch.testing.assert_close(weight, plain.weights[0].detach(), rtol=1e-4, atol=1e-5)


@forks
def test_a_loss_that_is_not_finite_in_one_process_stops_all(tmp_path: Path) -> None:
    def work(peers: Together, first: bool) -> Any:
        made = loop(tmp_path / "b")
        made.peers = peers

        def fail(calls: int) -> None:
            if calls == 13 and not first:
                made.objective.x[:18] = float("nan")

        made.objective.failing = fail
        return made.run(), made.listener.warnings

    found, warnings = both(tmp_path, work)
    assert found.done == 12
    assert "not finite at step 13: the weights are those of step 10" in warnings[0]


@forks
def test_processes_that_begin_with_other_weights_are_an_error(tmp_path: Path) -> None:
    def work(peers: Together, first: bool) -> str:
        weight = nn.Parameter(torch.ones(3) if first else torch.zeros(3))
        with pytest.raises(EngineError, match="do not begin with the same weights") as error:
            peers.check_same([weight])
        return error.value.hint or ""

    assert "processes = 1" in both(tmp_path, work)


@forks
def test_what_has_no_gradient_anywhere_keeps_none(tmp_path: Path) -> None:
    def work(peers: Together, first: bool) -> Any:
        made = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
        made[0].grad = torch.ones(2)
        if first:
            made[1].grad = torch.ones(2)
        loss = peers.summed(1.5, made)
        assert torch.distributed.is_initialized()
        return loss, [None if weight.grad is None else weight.grad.tolist() for weight in made]

    assert both(tmp_path, work) == (3.0, [[2.0, 2.0], [1.0, 1.0], None])
    assert not torch.distributed.is_initialized()
    assert "WORLD_SIZE" not in os.environ


def test_a_process_of_a_gpu_training_takes_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [peer.device_of("cuda", rank) for rank in (1, 2)] == ["cuda:1", "cuda:2"]
    assert [peer.device_of("cuda:2", rank) for rank in (1, 2)] == ["cuda:0", "cuda:1"]
    assert peer.device_of("cpu", 1) == "cpu"


def space_of(folder: Path, step: str) -> Workspace:
    from engine import profile as profiles

    space = workspace(folder / "run", subject("llama"))
    text = f'processes = 2\n[model]\nsource = "demo"\n[[step]]\n{step}\n'
    space.profile = profiles.parse(text, "test")
    return space


@pytest.mark.parametrize(("step", "warned"), [('use = "recover"', True), ('use = "finetune"', False)])
def test_processes_without_a_training_that_they_share_are_told(tmp_path: Path, step: str, warned: bool) -> None:
    space = space_of(tmp_path, step)
    check_processes(space)
    assert bool(space.state.log) is warned


def test_other_devices_are_refused(tmp_path: Path) -> None:
    space = space_of(tmp_path, 'use = "finetune"')
    space.subject.module.to("meta")
    with pytest.raises(UsageError, match="not on meta") as error:
        check_processes(space)
    assert error.value.where == "processes"
