"""Several processes that train one model: each takes its share of a batch, gradients are summed, the first decides and writes.

Reductions are accelerate's. The first process starts the others (see peer.py) for the training alone, on this machine, and ends
them with it; one that dies ends the run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Protocol

import psutil
import torch
from torch import distributed, nn
from torch.distributed.rendezvous import rendezvous

from engine import crashes
from engine.errors import EngineError
from engine.workspace import Workspace

PATIENCE = timedelta(hours=1)  # for one another, at most; one that is gone is noticed at once
LAST_WORDS = 10  # lines of a process that ended
POLL = 0.05  # seconds


class Peers(Protocol):
    """What a training asks of the processes that share it; without others nothing happens."""

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and writes."""

    def share(self, batch: Sequence[int]) -> Sequence[int]:
        """The items of a batch that this process takes."""

    def anyone(self, here: bool) -> bool:
        """Whether it is so in any process."""

    def agreed(self, value: Callable[[], float]) -> float:
        """The first process's value."""

    def summed(self, loss: float, weights: Sequence[nn.Parameter]) -> float:
        """The loss of all shares; their gradients are in the weights. A weight that has none anywhere has none."""

    def check_same(self, weights: Sequence[nn.Parameter]) -> None:
        """Raises EngineError when the processes do not begin with the same weights."""


class Alone:
    """The training's only process."""

    first = True

    def share(self, batch: Sequence[int]) -> Sequence[int]:
        return batch

    def anyone(self, here: bool) -> bool:
        return here

    def agreed(self, value: Callable[[], float]) -> float:
        return value()

    def summed(self, loss: float, weights: Sequence[nn.Parameter]) -> float:
        return loss

    def check_same(self, weights: Sequence[nn.Parameter]) -> None:
        """It is alone."""


ALONE = Alone()


@dataclass(frozen=True)
class Other:
    """A process that the first one has started, and what it says when something is wrong."""

    rank: int
    process: subprocess.Popen[bytes]
    words: IO[bytes]

    def check(self) -> None:
        """Raises EngineError when it is gone."""
        status = self.process.poll()
        if status is None:
            return
        self.words.seek(0)
        lines = self.words.read().decode("utf-8", "replace").splitlines()
        told = crashes.cause(lines, status).replace("the worker", f"process {self.rank} of the training")
        message = "\n".join([told, *lines[-LAST_WORDS:]])
        hint = crashes.hint(told) or "resuming the run goes on from its last state"
        raise EngineError(message, hint=hint)

    def end(self) -> None:
        """It writes nothing: nothing is lost."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@dataclass(frozen=True)
class Together:
    """One of several processes, by rank; the first knows the `others`."""

    rank: int
    count: int
    others: Sequence[Other] = field(default=())

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Sequence[int]) -> Sequence[int]:
        return batch[self.rank :: self.count]

    def anyone(self, here: bool) -> bool:
        return bool(self._reduced(torch.tensor([int(here)]), "max"))

    def agreed(self, value: Callable[[], float]) -> float:
        return float(self._reduced(torch.tensor([value() if self.first else 0.0], dtype=torch.float64), "sum"))

    def summed(self, loss: float, weights: Sequence[nn.Parameter]) -> float:
        there = self._reduced(torch.tensor([int(weight.grad is not None) for weight in weights]), "max")
        for weight in (weight for weight, somewhere in zip(weights, there.tolist(), strict=True) if somewhere):
            weight.grad = self._reduced(torch.zeros_like(weight) if weight.grad is None else weight.grad, "sum")
        return float(self._reduced(torch.tensor([loss], dtype=torch.float64), "sum"))

    def check_same(self, weights: Sequence[nn.Parameter]) -> None:
        sums = torch.stack([weight.detach().double().sum().cpu() for weight in weights])
        most, least = self._reduced(sums, "max"), -self._reduced(-sums, "max")
        if not torch.allclose(most, least, rtol=1e-9, equal_nan=True):
            message = "the processes of the training do not begin with the same weights"
            raise EngineError(message, hint="processes = 1, or a model whose weights do not change from load to load")

    def _reduced(self, tensor: torch.Tensor, how: str) -> torch.Tensor:
        """Over all processes. Raises EngineError when one of them is gone."""
        from accelerate.utils import reduce

        try:
            found: torch.Tensor = reduce(tensor, how)
        except RuntimeError:
            deadline = time.monotonic() + 5  # the connection is cut before the process has ended
            while self.others and time.monotonic() < deadline:
                for other in self.others:
                    other.check()
                time.sleep(POLL)
            raise
        return found


@contextmanager
def peers(workspace: Workspace) -> Iterator[Peers]:
    """The processes of the step's training, together from here to the end of the block; the others end there."""
    count = workspace.profile.processes
    if count == 1:
        yield ALONE
    elif workspace.seat is not None:
        rank, meeting = workspace.seat
        with grouped(workspace, store_in(meeting, rank, count), rank):
            yield Together(rank, count)
        sys.exit()
    else:
        with tempfile.TemporaryDirectory(prefix="compress-tui-") as folder, started(workspace, Path(folder)) as others:
            store = store_in(meeting_place(Path(folder)), 0, count)
            wait(workspace, store, others)
            with grouped(workspace, store, 0):
                yield Together(0, count, others)


@contextmanager
def started(workspace: Workspace, folder: Path) -> Iterator[list[Other]]:
    """The other processes, at work on the same step; they are gone afterwards."""
    count, others = workspace.profile.processes, []
    workspace.log(f"{count} processes train together: the others load the model")
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "engine.training.peer", str(workspace.run.path)]
    command += [str(workspace.step), str(meeting_place(folder)), *["--allow-code"] * workspace.allow_code]
    with ExitStack() as stack:
        for rank in range(1, count):
            words = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                [*command, "--rank", str(rank)], stdin=subprocess.PIPE, stdout=words, stderr=words,
                start_new_session=True, cwd=workspace.run.path,
            )  # fmt: skip
            others.append(Other(rank, process, words))
            stack.callback(others[-1].end)
        yield others


def meeting_place(folder: Path) -> Path:
    """The file by which processes find one another."""
    return folder / "meeting"


def store_in(file: Path, rank: int, count: int) -> Any:
    """torch's store of what processes tell one another, in this file."""
    store, _, _ = next(rendezvous(f"file://{file}", rank, count))
    return store


def wait(workspace: Workspace, store: Any, others: Sequence[Other]) -> None:
    """Until all are there. Raises EngineError when one ends before, Cancelled when the run is to stop."""
    while not store.check([f"ready {other.rank}" for other in others]):
        for other in others:
            other.check()
        workspace.check_stop()
        time.sleep(POLL)


@contextmanager
def grouped(workspace: Workspace, store: Any, rank: int) -> Iterator[None]:
    """The process is part of the group inside; on the CPU they share its threads."""
    from accelerate import PartialState
    from accelerate.utils import check_cuda_p2p_ib_support, patch_environment

    count, device, before = workspace.profile.processes, workspace.subject.device, torch.get_num_threads()
    threads = max(1, before // count) if device.type == "cpu" and rank == 0 else before
    own = device.type == "cuda" and torch.cuda.device_count() >= count
    nccl = {} if not own or check_cuda_p2p_ib_support() else {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    place = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": device.index or 0, "LOCAL_WORLD_SIZE": count}
    store.set(f"ready {rank}", "")
    torch.set_num_threads(threads)
    with patch_environment(**place, **nccl, OMP_NUM_THREADS=threads, MASTER_PORT="0", **loopback()):
        try:
            backend = "cpu:gloo,cuda:nccl" if own else "gloo"
            distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
            joined = PartialState(cpu=device.type == "cpu").num_processes
            assert joined == count, "a state that somebody made before would let every process train by itself"
            yield
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            PartialState._reset_state()
            torch.set_num_threads(before)


def loopback() -> dict[str, str]:
    """The interface that no other machine sees, where it is known by name."""
    names = (name for name, found in psutil.net_if_addrs().items() if any(one.address == "127.0.0.1" for one in found))
    name = next(names, None)
    return {} if name is None else {"GLOO_SOCKET_IFNAME": name}
