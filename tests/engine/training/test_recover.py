"""The `recover` step in whole runs on tiny models: it helps, keeps every zero, and resumes to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.killing import Condition, Killed, Killing, die_when
from fixtures.models import DEVICES, TEXT, save, subject
from fixtures.workspaces import ON_FOLDER
from safetensors.torch import load_file
from torch import nn

from engine import events as ev
from engine import runs
from engine.blockcall import BlockCall
from engine.runs import Run
from engine.subject import Origin
from engine.training.blockwise import distance
from engine.training.recover import block_ends, output, targets
from engine.worker import execute

PROFILE = (
    'name = "recover"'
    + ON_FOLDER
    + """\
samples = 8
length = 32
compute = "float32"
[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 3
length = 64
speed = false
[[step]]
use = "prune"
criterion = "wanda"
pattern = "{pattern}"
[[step]]
use = "recover"
epochs = 4
batch = 2
learning_rate = 5e-3
[[step]]
use = "export"
"""
)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Run]:
    """A new run of the profile on a tiny model of the architecture."""
    (tmp_path / "text.txt").write_text(TEXT)
    number = iter(range(100))

    def create(architecture: str = "llama", dtype: str = "float32", pattern: str = "unstructured") -> Run:
        if not (tmp_path / "model").is_dir():
            save(architecture, tmp_path / "model")
        text = PROFILE.format(folder=tmp_path, dtype=dtype, pattern=pattern)
        return runs.create("recover", text, tmp_path / f"run-{next(number)}")

    return create


def weights(run: Run) -> bytes:
    return (run.artifacts / "model" / "model.safetensors").read_bytes()


def after_block(block: int) -> Condition:
    return lambda event: isinstance(event, ev.BlockRecovered) and event.block == block


def within(steps: int) -> Condition:
    return lambda event: isinstance(event, ev.Progress) and event.label == "recovering" and event.done == steps


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "mixtral"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_errors_fall_and_zeros_stay(begin: Callable[..., Run], architecture: str, pattern: str) -> None:
    run = begin(architecture, pattern=pattern)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert [r.block for r in state.recoveries] == [0, 1]
    assert all(r.after < r.before for r in state.recoveries)
    assert state.steps[1].summary["error_after"] < state.steps[1].summary["error_before"]
    metrics = state.metrics
    assert list(metrics) == ["dense", "pruned", "recovered", "exported"]
    assert metrics["recovered"]["sparsity"].value == metrics["pruned"]["sparsity"].value
    assert metrics["exported"]["perplexity"].value == pytest.approx(metrics["recovered"]["perplexity"].value, rel=1e-6)
    for block in (0, 1):
        pruned = load_file(run.checkpoints / f"step-0-block-{block}.safetensors")
        recovered = load_file(run.checkpoints / f"step-1-block-{block}.safetensors")
        assert sum(int((w == 0).sum()) for w in recovered.values() if w.ndim > 1) == sum(
            int((w == 0).sum()) for w in pruned.values()
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("moment", [after_block(0), within(3), within(20)])
def test_resume_gives_the_same_bits(begin: Callable[..., Run], dtype: str, moment: Condition) -> None:
    whole, broken = begin(dtype=dtype), begin(dtype=dtype)
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(moment))
    assert execute(broken) == 0, broken.state().failure
    assert weights(broken) == weights(whole)
    assert broken.state().steps[1].summary == whole.state().steps[1].summary
    assert execute(broken) == 0, "a finished run is taken from its checkpoints"
    assert weights(broken) == weights(whole)


@pytest.mark.parametrize("moment", [after_block(0), within(3), within(20)])
def test_kill_9_loses_no_bit(begin: Callable[..., Run], killed: Killing, moment: Condition) -> None:
    whole, run = begin(), begin()
    killed(run, moment)
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gpt_neox", "gemma3_text"])
def test_half_precision_models_are_trained_in_float32(begin: Callable[..., Run], architecture: str) -> None:
    run = begin(architecture, dtype="bfloat16")
    assert execute(run) == 0, run.state().failure
    assert all(r.after < r.before for r in run.state().recoveries)


def test_states_and_targets_may_wait_elsewhere_than_the_weights() -> None:
    """The meta device stands for an accelerator: torch refuses to mix it with the CPU as it does any other."""
    block = nn.Linear(4, 3, device="meta", dtype=torch.bfloat16)
    found = output(block, BlockCall((), {}, "input"), torch.ones(2, 4))
    assert (found.device.type, found.dtype) == ("meta", torch.bfloat16)
    assert distance(found, torch.ones(2, 3)).device.type == "meta"


@pytest.mark.parametrize("device", DEVICES)
def test_states_on_disk_give_what_states_in_memory_give(tmp_path: Path, device: str) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    save("llama", tmp_path / "model")
    found = []
    for states in ("memory", "disk"):
        text = PROFILE.format(folder=tmp_path, dtype="float32", pattern="unstructured")
        text = text.replace('device = "cpu"', f'device = "{device}"')
        text = text.replace("[calibration]", f'[calibration]\nstates = "{states}"')
        run = runs.create("recover", text, tmp_path / states)
        assert execute(run) == 0, run.state().failure
        found.append(weights(run))
    assert found[0] == found[1]


def test_a_module_without_text_is_refused(tmp_path: Path) -> None:
    text = '[model]\nsource = "builtin:linear"\n[calibration]\nsource = "builtin"\n[[step]]\nuse = "recover"\n'
    run = runs.create("linear", text, tmp_path / "run")
    assert execute(run) == 2
    assert "language model" in run.events()[-1].message


def test_blocks_that_stay_learn_what_the_removed_ones_behind_them_did() -> None:
    whole = subject("llama")
    assert block_ends(whole, 2) == [0, 1]
    whole.origin = Origin(blocks=[0, 3, 4])
    assert block_ends(whole, 6) == [2, 3, 5]


def test_targets_have_the_hidden_dimensions_that_stay() -> None:
    small = subject("llama")
    small.origin = Origin(hidden=[0, 2])
    assert torch.equal(targets(small, [torch.arange(3.0)])[0], torch.tensor([0.0, 2.0]))
