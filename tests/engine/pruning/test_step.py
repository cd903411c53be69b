"""The prune step with the dense model's statistics: what they are, that they are collected once, and resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Condition, Killed, Killing, die_when, nth
from fixtures.models import DEVICES, TEXT, save, tiny, tokenizer
from safetensors.torch import load_file

from engine import events as ev
from engine import profile as profiles
from engine import runs
from engine.data.text import windows
from engine.pruning.masks import Pattern
from engine.registry import CRITERIA
from engine.runs import Run
from engine.worker import execute

PROFILE = """
name = "tiny"
threads = 1
[model]
source = "{model}"
device = "{device}"
dtype = "float32"
[calibration]
source = "file:{folder}/text.txt"
samples = {samples}
length = 48
compute = "float32"
[evaluate]
perplexity = "none"
speed = false
[[step]]
use = "prune"
criterion = "{criterion}"
sparsity = {sparsity}
statistics = "{statistics}"
[[step]]
use = "export"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; the folder of the statistics in it."""
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grams"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save("llama", folder / "llama")
    save("mixtral", folder / "mixtral", num_local_experts=4, num_experts_per_tok=1)
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Run]:
    """A new run; `model` is a folder of the data."""
    number = iter(range(100))

    def create(model: str = "llama", **changes: Any) -> Run:
        values = {"criterion": "wanda", "sparsity": 0.5, "statistics": "dense", "samples": 8, "device": "cpu"} | changes
        text = PROFILE.format(folder=data, model=data / model, **values)
        return runs.create("tiny", text, tmp_path / f"run-{next(number)}")

    return create


def finish(run: Run) -> Run:
    assert execute(run) == 0, run.state().failure
    return run


def weights(run: Run) -> bytes:
    return (run.artifacts / "model" / "model.safetensors").read_bytes()


def pruned(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.artifacts / "model" / "model.safetensors")


def collections(run: Run) -> int:
    """How often the run walked over the dense model."""
    return sum(isinstance(e, ev.Progress) and e.label == "collecting statistics" and e.done == 1 for e in run.events())


# What the statistics are


@pytest.mark.parametrize("criterion", ["magnitude", "wanda", "ria", "sparsegpt", "admm"])
def test_one_block_with_one_input_is_pruned_as_in_sequence(tmp_path: Path, criterion: str) -> None:
    plain = profiles.find("worked-example").text().partition('[[step]]\nuse = "distill"')[0]
    found = []
    for statistics in ("sequential", "dense"):
        old = 'use = "prune"'
        text = plain.replace(old, f'{old}\nstatistics = "{statistics}"') + '\n[[step]]\nuse = "export"\n'
        text = "\n".join(
            f'criterion = "{criterion}"' if line.startswith("criterion") else line for line in text.splitlines()
        )
        found.append(pruned(finish(runs.create("linear", text, tmp_path / statistics)))["linear.weight"])
    assert 2 * int((found[0] == 0).sum()) == found[0].numel()
    assert torch.equal(*found)


@pytest.mark.parametrize("device", DEVICES)
def test_matrices_are_pruned_for_the_inputs_of_the_dense_model(
    begin: Callable[..., Run], data: Path, device: str
) -> None:
    """Wanda by hand: every matrix with its input in the model that nothing was removed from."""
    mine = pruned(finish(begin(device=device)))
    model = tiny("llama")
    ids = torch.tensor(tokenizer()(TEXT, verbose=False).input_ids)
    inputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "layers" in name:
            module.register_forward_hook(lambda m, args, out, name=name: inputs.update({name: args[0]}))
    with torch.no_grad():
        model(windows(ids, 8, 48, 0))
    assert len(inputs) == 14
    for name, x in inputs.items():
        weight_OI = model.get_submodule(name).weight
        score_OI = weight_OI.abs() * x.reshape(-1, x.shape[-1]).norm(dim=0)
        keep_OI = Pattern(0.5, scope="row").keep(score_OI)
        assert torch.equal(mine[f"{name}.weight"], weight_OI * keep_OI), name


def test_the_order_of_matrices_does_not_matter_as_it_does_in_sequence(begin: Callable[..., Run]) -> None:
    """The first group of the first block is the same both ways; later inputs differ."""
    dense, sequential = (pruned(finish(begin(statistics=how))) for how in ("dense", "sequential"))
    first = [name for name in dense if "layers.0.self_attn.q_proj" in name or "layers.0.self_attn.k_proj" in name]
    assert all(torch.equal(dense[name], sequential[name]) for name in first)
    assert any(not torch.equal(dense[name], sequential[name]) for name in dense if "layers.1" in name)


def test_experts_that_no_token_reaches(begin: Callable[..., Run], data: Path, tmp_path: Path) -> None:
    model = tiny("mixtral", num_local_experts=4, num_experts_per_tok=1)
    for block in model.model.layers:
        block.mlp.gate.weight.data[1] = -block.mlp.gate.weight.data[0]
        block.mlp.gate.weight.data[2:] = 0
    model.save_pretrained(tmp_path / "lonely")
    tokenizer().save_pretrained(tmp_path / "lonely")
    run = finish(begin(str(tmp_path / "lonely")))
    warnings = [event.message for event in run.events() if isinstance(event, ev.Log) and event.level == "warning"]
    assert any("8 matrices met no calibration token" in message for message in warnings)
    how = CRITERIA.load("magnitude").CRITERION
    assert how.score is not None
    for name, after in load_experts(run).items():
        before = dict(model.named_parameters())[name]
        for expert in (2, 3):
            keep = Pattern(0.5, scope="row").keep(before[expert].abs())
            assert torch.equal(after[expert], before[expert] * keep)


def load_experts(run: Run) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    state = AutoModelForCausalLM.from_pretrained(run.artifacts / "model").state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.ndim == 3}


# Once for many


def test_two_sparsities_and_two_criteria_share_one_collection(begin: Callable[..., Run], cache: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"sparsity": 0.7}, {"criterion": "sparsegpt"}]
    done = [finish(begin(**change)) for change in changes]
    assert [collections(run) for run in done] == [1, 0, 0]
    assert len(list(cache.iterdir())) == 1
    assert [run.state().steps[0].summary["sparsity"] for run in done] == pytest.approx([0.5, 0.7, 0.5], abs=0.02)
    finish(begin(samples=7))
    assert len(list(cache.iterdir())) == 2


def test_what_was_collected_before_gives_the_same_weights(begin: Callable[..., Run], cache: Path) -> None:
    for criterion in ("wanda", "admm"):
        one, other = (finish(begin(criterion=criterion)) for _ in range(2))
        assert weights(one) == weights(other)
        assert collections(other) == 0


def test_a_second_prune_step_collects_from_what_the_first_one_left(begin: Callable[..., Run], cache: Path) -> None:
    run = begin(sparsity=0.25)
    text = run.profile_file.read_text()
    block = text[text.index("[[step]]") : text.rindex("[[step]]")]
    run.profile_file.write_text(text.replace(block, block + block.replace("0.25", "0.5")))
    finish(run)
    assert collections(run) == 2
    assert len(list(cache.iterdir())) == 2


# Stopping and going on


@pytest.mark.parametrize(
    ("model", "criterion", "at", "forget"),
    [
        ("llama", "wanda", 1, False),
        ("llama", "sparsegpt", 10, True),
        ("mixtral", "admm", 20, True),
        ("llama", "admm", 14, False),
    ],
)
def test_resume_is_bit_identical(
    begin: Callable[..., Run], cache: Path, model: str, criterion: str, at: int, forget: bool
) -> None:
    whole, broken = begin(model, criterion=criterion), begin(model, criterion=criterion)
    finish(whole)
    with pytest.raises(Killed):
        execute(broken, also=die_when(nth(ev.LayerPruned, at)))
    if forget:
        cache.rename(cache.with_name("elsewhere"))
    finish(broken)
    assert weights(broken) == weights(whole)
    assert collections(broken) == int(forget)


def saying(label: str) -> Condition:
    return lambda event: isinstance(event, ev.Progress) and event.label == label


def test_a_kill_while_collecting_leaves_nothing_half(begin: Callable[..., Run], cache: Path) -> None:
    broken = begin()

    with pytest.raises(Killed):
        execute(broken, also=die_when(saying("collecting statistics")))
    assert list(cache.iterdir()) == []
    finish(broken)
    assert weights(broken) == weights(finish(begin()))


@pytest.mark.parametrize("moment", ["collecting statistics", "pruning"])
def test_kill_9_loses_no_bit(begin: Callable[..., Run], killed: Killing, cache: Path, moment: str) -> None:
    run, whole = begin(criterion="admm", samples=64), begin(criterion="admm", samples=64)
    killed(run, saying(moment))
    finish(run)
    assert weights(run) == weights(finish(whole))
    assert len([entry for entry in cache.iterdir() if not entry.name.startswith(".")]) == 1
