"""Whole runs that make a model smaller: later steps, export and resume work on the new shapes, and the state follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, Killing, die_when, nth
from fixtures.models import TEXT, save
from fixtures.workspaces import tokens

from engine import events as ev
from engine import profile as profiles
from engine import runs
from engine.runs import Run
from engine.worker import execute

HEAD = """
name = "smaller"
threads = 1
[model]
source = "{folder}/model"
device = "cpu"
dtype = "float32"
[calibration]
source = "file:{folder}/text.txt"
samples = 8
length = 48
compute = "float32"
[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 3
length = 64
speed = false
"""
STRUCTURE = '[[step]]\nuse = "prune"\npattern = "{pattern}"\nsparsity = {sparsity}\n'
REST = """
[[step]]
use = "recover"
epochs = 1
batch = 4
[[step]]
use = "prune"
criterion = "wanda"
sparsity = 0.5
[[step]]
use = "export"
"""
SPARSITY = {"channels": 0.25, "heads": 0.5, "hidden": 0.25, "blocks": 0.34}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    save("llama", made / "model", num_hidden_layers=3)
    (made / "text.txt").write_text(TEXT)
    return made


@pytest.fixture
def begin(folder: Path, tmp_path: Path) -> Callable[..., Run]:
    """A new run of structured patterns, one step each, and the rest."""
    number = iter(range(100))

    def create(*patterns: str, rest: str = REST) -> Run:
        text = HEAD.format(folder=folder)
        text += "".join(STRUCTURE.format(pattern=name, sparsity=SPARSITY[name]) for name in patterns) + rest
        profiles.parse(text, "test")
        return runs.create("smaller", text, tmp_path / f"run-{next(number)}")

    return create


def weights(run: Run) -> bytes:
    return (run.artifacts / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("pattern", sorted(SPARSITY))
def test_smaller_recovered_pruned_exported(begin: Callable[..., Run], pattern: str) -> None:
    from transformers import AutoModelForCausalLM

    run = begin(pattern)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert list(state.metrics) == ["dense", "pruned", "recovered", "pruned-2", "exported"]
    figures = {stage: {name: metric.value for name, metric in found.items()} for stage, found in state.metrics.items()}
    assert figures["pruned"]["parameters"] < figures["dense"]["parameters"]
    assert figures["exported"]["parameters"] == figures["pruned"]["parameters"]
    assert figures["exported"]["bytes"] < figures["dense"]["bytes"]
    assert figures["exported"]["perplexity"] == pytest.approx(figures["pruned-2"]["perplexity"], rel=1e-6)
    recovered = state.steps[1].summary
    assert recovered["error_after"] < recovered["error_before"]
    assert state.steps[3].summary["identical"] is True
    plain = AutoModelForCausalLM.from_pretrained(run.artifacts / "model").eval()
    assert sum(p.numel() for p in plain.parameters()) == figures["pruned"]["parameters"]
    with torch.no_grad():
        assert torch.isfinite(plain(input_ids=tokens(1, 20)).logits).all()


def test_the_state_follows_the_shapes(begin: Callable[..., Run]) -> None:
    run = begin("blocks", "channels")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    loaded = [event for event in run.events() if isinstance(event, ev.ModelLoaded)]
    assert [event.step for event in loaded] == [-1, 0, 1]
    assert [len(event.matrices) for event in loaded] == [21, 14, 14]
    assert state.model is not None
    assert state.model.parameters == state.metrics["exported"]["parameters"].value
    assert len(state.layers) == 14
    assert {tuple(layer.shape) for name, layer in state.layers.items() if "down_proj" in name} == {(32, 48)}
    assert {layer.sparsity for layer in state.layers.values()} == {0.5}
    assert [(removal.part, len(removal.removed)) for removal in state.removals] == [
        ("blocks", 1), ("channels", 16), ("channels", 16),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [ev.PartsRemoved, ev.ModelLoaded, ev.BlockRecovered, ev.LayerPruned, ev.ArtifactWritten]
)
def test_killed_anywhere_it_ends_with_the_same_bytes(begin: Callable[..., Run], kind: type[ev.Event]) -> None:
    whole, broken = begin("hidden", "channels"), begin("hidden", "channels")
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(nth(kind, 1 if kind is ev.ArtifactWritten else 2)))
    assert execute(broken) == 0, broken.state().failure
    assert weights(broken) == weights(whole)
    mine, other = broken.state(), whole.state()
    assert {n: (tuple(x.shape), x.sparsity) for n, x in mine.layers.items()} == {
        n: (tuple(x.shape), x.sparsity) for n, x in other.layers.items()
    }
    assert [r.removed for r in mine.removals] == [r.removed for r in other.removals]
    for stage, metrics in other.metrics.items():
        assert mine.metrics[stage]["perplexity"].value == metrics["perplexity"].value


@pytest.mark.parametrize("structure", ["channels", "hidden"])
def test_kill_9_loses_no_bit(begin: Callable[..., Run], killed: Killing, structure: str) -> None:
    whole, broken = begin(structure), begin(structure)
    killed(broken, nth(ev.PartsRemoved))
    for run in (broken, whole):
        assert execute(run) == 0, run.state().failure
    assert weights(broken) == weights(whole)


@pytest.mark.parametrize(
    ("changed", "words"),
    [('pattern = "channels"\nsparsity = 0.01', "removes nothing"),
     ('pattern = "channels"\nscore = "influence"', "influence"),
     ('pattern = "heads"\nsparsity = 0.1', "removes nothing")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_dense_model_is_measured(
    begin: Callable[..., Run], changed: str, words: str
) -> None:
    run = begin(rest=f'[[step]]\nuse = "prune"\n{changed}\n')
    assert execute(run) == 2
    failure: Any = run.state().failure
    assert words in failure.message
    assert failure.hint
    assert not run.state().metrics
