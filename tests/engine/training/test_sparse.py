"""The `sparse_train` step in whole runs: every method and pattern, from a pretrained model and from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, die_when
from fixtures.models import TEXT, save
from fixtures.training import MEASURED, check_at, weights
from fixtures.workspaces import workspace
from safetensors.torch import load_file

from engine import runs
from engine.runs import Run
from engine.subject import Subject
from engine.training import course
from engine.training.options import SparseTrainOptions
from engine.worker import execute

PROFILE = (
    'name = "sparse"'
    + MEASURED
    + """\
[[step]]
use = "sparse_train"
method = "{method}"
pattern = "{pattern}"
steps = 20
batch = 2
check_every = 5
save_every = 4
update_every = 3
held_out = 4
learning_rate = 2e-3
[[step]]
use = "export"
"""
)
LINEAR = """[model]\nsource = "builtin:linear"\n[calibration]\nsource = "builtin"\n[[step]]\nuse = "sparse_train"
steps = 60\nlearning_rate = 1e-2\nbatch = 20\n"""


def begun(folder: Path, name: str, architecture: str = "llama", dtype: str = "float32", **changes: str) -> Run:
    (folder / "text.txt").write_text(TEXT)
    if not (folder / "model").is_dir():
        save(architecture, folder / "model")
    return runs.create("sparse", PROFILE.format(folder=folder, dtype=dtype, **changes), folder / name)


@pytest.mark.parametrize(
    ("architecture", "method", "pattern"),
    [
        ("llama", "gradual", "unstructured"),
        ("gpt2", "gradual", "2:4"),
        ("mixtral", "straight_through", "2:4"),
        ("gpt2", "straight_through", "unstructured"),
        ("llama", "rigl", "unstructured"),
    ],
)
def test_the_final_sparsity_is_exact(tmp_path: Path, architecture: str, method: str, pattern: str) -> None:
    run = begun(tmp_path, "run", architecture, method=method, pattern=pattern)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert state.steps[0].summary["sparsity"] == 0.5
    assert {layer.sparsity for layer in state.layers.values()} == {0.5}
    assert state.steps[0].summary["best_step"] >= 15
    assert state.metrics["exported"]["sparsity"].value == state.metrics["sparse"]["sparsity"].value
    if pattern == "2:4" and architecture != "gpt2":
        stored = load_file(run.artifacts / "model" / "model.safetensors")
        matrices = [w for name, w in stored.items() if w.ndim == 2 and ".layers." in name]
        assert matrices
        assert all(int((w != 0).reshape(-1, 4).sum(1).max()) <= 2 for w in matrices if bool((w == 0).any()))


@pytest.mark.parametrize(
    ("method", "dtype", "at"),
    [
        ("gradual", "bfloat16", 10),
        ("rigl", "float32", 5),
        ("straight_through", "float32", 10),
        ("gradual", "float32", 15),
    ],
)
def test_resume_gives_the_same_bits(tmp_path: Path, method: str, dtype: str, at: int) -> None:
    whole, broken = (begun(tmp_path, name, dtype=dtype, method=method, pattern="unstructured") for name in "ab")
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(check_at(at)))
    for _ in range(2):
        assert execute(broken) == 0, broken.state().failure
        assert weights(broken) == weights(whole)


@pytest.mark.parametrize("start", ["pretrained", "scratch"])
@pytest.mark.parametrize("method", ["gradual", "rigl", "straight_through"])
def test_a_module_is_trained_sparse(tmp_path: Path, method: str, start: str) -> None:
    run = runs.create("linear", LINEAR + f'method = "{method}"\nstart = "{start}"\n', tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert state.metrics["sparse"]["sparsity"].value == 0.5
    assert state.metrics["sparse"]["accuracy:features"].value > 0.8


def test_buffers_are_kept_with_the_weights(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    made = workspace(tmp_path / "run", Subject(module, "here", "f"))
    module[1].running_mean.fill_(2.0)
    course.keep(made)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for tensor in module.state_dict().values():
        tensor.zero_()
    course.put_back(made)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_threshold_decides_how_many_go(tmp_path: Path) -> None:
    run = runs.create("linear", LINEAR + 'method = "threshold"\nthreshold = 5e-4\n', tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    assert 0.1 < run.state().steps[0].summary["sparsity"] < 0.9


def test_a_language_model_is_not_begun_anew(tmp_path: Path) -> None:
    run = begun(tmp_path, "run", method='gradual"\nstart = "scratch', pattern="unstructured")
    assert execute(run) == 2
    assert "from scratch" in run.events()[-1].message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "rigl", "pattern": "2:4"}, "over a whole matrix"),
        ({"method": "threshold"}, "go together"),
        ({"threshold": 0.1}, "go together"),
        ({"pattern": "channels"}, "by a prune step"),
        ({"pattern": "2:4", "sparsity": 0.3}, "means sparsity"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseTrainOptions.model_validate({"use": "sparse_train", **changes})
