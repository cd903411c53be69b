"""A run that is killed while an artifact is written: what it began ends with it, and going on leaves nothing half-written."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest
from fixtures.killing import check_killed, forked, forks
from fixtures.models import TEXT, save
from fixtures.workspaces import ON_FOLDER

from engine import files, runs
from engine.export.onnx import decoder
from engine.worker import execute

PROFILE = (
    ON_FOLDER
    + """
[evaluate]
perplexity = "none"
speed = false
[[step]]
use = "export"
format = "onnx_fp32"
verify = false
"""
)
BUILDER = """
import os, signal, sys
from pathlib import Path
(Path(sys.argv[sys.argv.index("-o") + 1]) / "model.onnx").write_bytes(b"half of it")
signal.alarm(600)
with open(os.environ["AT_WORK"], "w") as told:
    told.write("at work")
    told.flush()
    signal.pause()
"""
PATIENCE = 120


def heard(pipe: int) -> bytes:
    """What comes next out of a pipe; nothing when all who could write into it are gone."""
    assert select.select([pipe], [], [], PATIENCE)[0], "the run never came to the builder, or the builder goes on"
    return os.read(pipe, 100)


@forks
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux to end the builder")
def test_a_run_killed_while_the_builder_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime_genai")
    save("llama", tmp_path / "model", hidden_size=64, intermediate_size=96)
    (tmp_path / "text.txt").write_text(TEXT)
    run = runs.create("tiny", PROFILE.format(folder=tmp_path, dtype="float32"), tmp_path / "run")
    (tmp_path / "waiting_builder.py").write_text(BUILDER)
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with monkeypatch.context() as patch:
        patch.setenv("AT_WORK", str(tmp_path / "pipe"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
        patch.setattr(decoder, "BUILDER", "waiting_builder")
        child = forked(run)
        assert heard(pipe) == b"at work"
    os.kill(child, signal.SIGKILL)
    check_killed(run, child)
    assert heard(pipe) == b"", "the builder has ended with the run"
    os.close(pipe)
    [part] = run.artifacts.iterdir()
    assert (part / "model.onnx").read_bytes() == b"half of it"
    for name in (".model.1.old", "prompts/.winner.json.1.part"):
        (run.artifacts / name).mkdir(parents=True)
    (run.checkpoints / ".step-0-block-0.safetensors.1.part").write_bytes(b"half of it")
    assert execute(run) == 0, run.state().failure
    assert (run.artifacts / "model" / "model.onnx").stat().st_size > 1000
    assert sorted(path.name for path in run.artifacts.iterdir()) == ["model", "prompts"]
    assert not [path for path in run.path.rglob("*") if path.name.endswith((".part", ".old")) or "tmp" in path.name]


def test_what_others_write_into_a_run_is_left_to_them(tmp_path: Path) -> None:
    run = runs.create("tiny", 'name = "tiny"\n', tmp_path / "run")
    mark, state = (run.path / f".{name}.1.part" for name in (runs.QUEUED, "state.json"))
    for file in (mark, state):
        file.write_text("half of it")
    with files.scratch(run.path) as scratch:
        (scratch / "features").write_text("half of it")
        with runs.lock(run):
            assert mark.exists()
            assert not state.exists()
            assert not scratch.exists()
