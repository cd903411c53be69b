"""Another process of a training, `python -P -m engine.training.peer RUN_DIR STEP MEETING --rank N`.

It makes the model as the steps before left it, joins the first process for the step's training (see together.py), and ends with
it. It writes nothing into the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

import torch

from engine import events as ev
from engine import pipeline, runs
from engine import profile as profiles
from engine.errors import EngineError
from engine.registry import STEPS
from engine.state import RunState


def work(run: runs.Run, step: int, rank: int, meeting: Path, allow_code: bool) -> None:
    """Does the step until its training is over, which ends the process."""
    profile = profiles.parse(run.profile_file.read_text(encoding="utf-8"), str(run.profile_file))
    device = device_of(profile.model.device, rank)
    threads = profile.threads or torch.get_num_threads()
    changes = {
        "model": profile.model.model_copy(update={"device": device}),
        "threads": max(1, threads // profile.processes) if device == "cpu" else threads,
    }
    workspace = pipeline.opened(
        run, profile.model_copy(update=changes), unheard, lambda: False, RunState.of(run.events()), allow_code
    )
    workspace.seat = (rank, meeting)
    for index, options in enumerate(profile.step[: step + 1]):
        workspace.step = index
        if index == step:
            STEPS[options.use].run()(workspace, options)
        else:
            pipeline.take_over(workspace, options)


def device_of(first: str, rank: int) -> str:
    """Where a process trains when the first one trains there: on the next CUDA device, behind the last on cuda:0."""
    kind, _, index = first.partition(":")
    return f"cuda:{(int(index or 0) + rank) % torch.cuda.device_count()}" if kind == "cuda" else first


def unheard(event: ev.Event) -> None:
    """The first process says everything."""


def end_with_the_first() -> None:
    """Its end of the pipe closes when it is gone, however it went."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.training.peer", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("step", type=int)
    parser.add_argument("meeting", type=Path)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--allow-code", action="store_true")
    arguments = parser.parse_args()
    threading.Thread(target=end_with_the_first, daemon=True).start()
    try:
        work(runs.Run(arguments.run), arguments.step, arguments.rank, arguments.meeting, arguments.allow_code)
    except EngineError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
