"""Expert pruning: planted useless experts are the ones found, what stays computes what it did, and bad requests are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, die_when, nth
from fixtures.models import DEVICES, TEXT, VOCABULARY, subject, tiny, tokenizer
from fixtures.workspaces import workspace
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from engine import events as ev
from engine import runs
from engine.calibration import Walk
from engine.errors import UsageError
from engine.pruning import structured
from engine.pruning.options import PruneOptions
from engine.pruning.routing import Watch, find
from engine.pruning.structures import experts
from engine.runs import Run
from engine.worker import execute

PROFILE = """
name = "mixture"
threads = 1
seed = {seed}
[model]
source = "{folder}/model"
device = "{device}"
dtype = "{dtype}"
[calibration]
source = "file:{folder}/text.txt"
samples = 6
length = 40
chunk = 4
compute = "float32"
[evaluate]
perplexity = "none"
speed = false
"""
EXPORT = '[[step]]\nuse = "export"\n'
# architecture, what makes it roomy enough, and the experts that are made useless in its two blocks: one in each group of the
# model that chooses groups first
PLANTED: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    "mixtral": ({"num_local_experts": 5}, [[1, 3], [0, 4]]),
    "olmoe": ({}, [[0, 5], [2, 3]]),
    "qwen2_moe": ({}, [[4, 5], [1, 2]]),
    "gpt_oss": ({}, [[3, 0], [1, 2]]),
    "deepseek_v3": ({}, [[0, 7], [3, 5]]),
}


def step(sparsity: float, more: str = "") -> str:
    return f'[[step]]\nuse = "prune"\npattern = "experts"\nsparsity = {sparsity}\n{more}\n'


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Run]:
    """A new run over a model, with these steps."""
    (tmp_path / "text.txt").write_text(TEXT)
    number = iter(range(100))

    def create(model: Any, *steps: str, seed: int = 0, device: str = "cpu", dtype: str = "float32") -> Run:
        model.save_pretrained(tmp_path / "model")
        tokenizer().save_pretrained(tmp_path / "model")
        text = PROFILE.format(folder=tmp_path, seed=seed, device=device, dtype=dtype) + "".join(steps)
        return runs.create("mixture", text, tmp_path / f"run-{next(number)}")

    return create


def done(run: Run) -> Any:
    """The model that the run exported, as plain transformers loads it."""
    assert execute(run) == 0, run.state().failure
    return exported(run)


def exported(run: Run) -> Any:
    return AutoModelForCausalLM.from_pretrained(run.artifacts / "model", dtype=torch.float32)


def removed(run: Run) -> list[list[int]]:
    return [event.removed for event in run.events() if isinstance(event, ev.PartsRemoved)]


def logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(2, VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = model(tokens).logits
    return found


def mixtures(model: Any) -> list[tuple[Any, nn.Module]]:
    """(experts, router) of every block that has them."""
    found = []
    for block in model.model.layers:
        mlp = block.mlp
        if hasattr(mlp, "experts"):
            found.append((mlp.experts, getattr(mlp, "gate", None) or mlp.router))
    return found


def silence(model: Any, useless: list[list[int]]) -> Any:
    """These experts answer nothing, and are chosen like any others."""
    for (layer, _), which in zip(mixtures(model), useless, strict=True):
        layer.down_proj.data[which] = 0
        if hasattr(layer, "down_proj_bias"):
            layer.down_proj_bias.data[which] = 0
    return model


def avoid(model: Any, useless: list[list[int]]) -> Any:
    """No token ever chooses these experts: one hidden dimension is always large, and their router rows dislike it."""
    model.model.embed_tokens.weight.data.normal_()  # large, so that tokens differ enough to meet all the other experts
    model.model.embed_tokens.weight.data[:, 0] = 3
    for (_, router), which in zip(mixtures(model), useless, strict=True):
        router.weight.data[:, 0] = 0
        router.weight.data[which] = 0
        router.weight.data[which, 0] = -100
    return model


@pytest.fixture(params=PLANTED)
def planted(request: pytest.FixtureRequest) -> tuple[Any, list[list[int]], float]:
    """A model, which experts to make useless, and the sparsity that removes as many."""
    changes, useless = PLANTED[request.param]
    model = tiny(request.param, **changes)
    return model, useless, len(useless[0]) / len(mixtures(model)[0][0].down_proj)


# What is measured


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [6, 4])
def test_saliency_is_the_mean_over_an_experts_tokens(chunk: int, device: str) -> None:
    mine = subject("mixtral", num_local_experts=5)
    mine.module.to(device)
    tokens = torch.randint(2, VOCABULARY, (6, 40), generator=torch.Generator().manual_seed(3))
    layers = find(mine, tokens[:1, :8])
    assert [(layer.block, layer.experts, layer.chosen) for layer in layers] == [(0, 5, 2), (1, 5, 2)]
    calls: dict[int, Any] = {}
    hooks = [
        layer.module.register_forward_pre_hook(lambda module, args, number=number: calls.update({number: args}))
        for number, layer in enumerate(layers)
    ]
    with torch.no_grad():
        mine.module(tokens.to(device))
    for hook in hooks:
        hook.remove()
    watch = Watch(Walk(mine, tokens, chunk, torch.float32), layers)
    assert list(watch.run()) == [0, 1]
    for number, layer in enumerate(layers):
        x_TH, index_TK, gates_TK = calls[number]
        module: Any = layer.module
        for expert in range(5):
            gate, up = functional.linear(x_TH, module.gate_up_proj[expert]).chunk(2, -1)
            f_TH = functional.linear(functional.silu(gate) * up, module.down_proj[expert])
            gated_TK = gates_TK * f_TH.norm(dim=1, keepdim=True)
            mean = float(gated_TK[index_TK == expert].mean())
            activity = watch.activity[layer.name]
            assert float(activity.saliency[expert]) == pytest.approx(mean, rel=1e-4)
            assert int(activity.tokens[expert]) == int((index_TK == expert).sum())


def test_watching_leaves_no_trace() -> None:
    mine = subject("qwen2_moe")
    tokens = torch.randint(2, VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(3))
    before = logits(mine.module)
    list(Watch(Walk(mine, tokens, 2, torch.float32), find(mine, tokens[:1, :8])).run())
    assert torch.equal(logits(mine.module), before)
    assert not any(m._forward_pre_hooks for m in mine.module.modules())


# What goes


@pytest.mark.parametrize("device", DEVICES)
def test_silent_experts_are_the_ones_found(planted: Any, begin: Callable[..., Run], device: str) -> None:
    model, useless, sparsity = planted
    run = begin(silence(model, useless), step(sparsity), device=device)
    assert execute(run) == 0, run.state().failure
    assert removed(run) == [sorted(which) for which in useless]
    summary = run.state().steps[0].summary
    assert summary["activity_removed"] == 0
    assert 0 < summary["choices_removed"] < 1
    assert summary["experts"] == summary["of"] - len(useless[0])


def test_without_experts_that_nobody_chose_the_logits_are_the_same(planted: Any, begin: Callable[..., Run]) -> None:
    model, useless, sparsity = planted
    run = begin(avoid(model, useless), step(sparsity), EXPORT)
    smaller = done(run)
    assert removed(run) == [sorted(which) for which in useless]
    assert run.state().steps[0].summary["choices_removed"] == 0
    torch.testing.assert_close(logits(smaller), logits(model), atol=2e-5, rtol=1e-4)
    assert run.state().steps[1].summary["identical"] is True


def test_of_silent_and_never_chosen_experts_the_never_chosen_go_first(begin: Callable[..., Run]) -> None:
    model = avoid(silence(tiny("olmoe"), [[0, 2], [0, 2]]), [[4], [1]])
    run = begin(model, step(1 / 6))
    assert execute(run) == 0
    assert removed(run) == [[4], [1]]


def test_what_stays_is_what_it_was(planted: Any, begin: Callable[..., Run]) -> None:
    model, useless, sparsity = planted
    for _, router in mixtures(model):
        for tensor in router.state_dict().values():
            if tensor.ndim == 1:  # biases, and the correction of the scores
                tensor.normal_(0, 0.01)
    run = begin(silence(model, useless), step(sparsity), EXPORT)
    smaller, before = done(run).state_dict(), model.state_dict()
    assert smaller.keys() == before.keys()
    count = len(mixtures(model)[0][0].down_proj)
    shorter = 0
    for name, after in smaller.items():
        if ".experts." in name or ".mlp.gate." in name or ".router." in name:
            gone = useless[int(name.split(".")[2])]
            rows = [row for row in range(count) if row not in gone]
            assert torch.equal(after, before[name][rows]), name
            shorter += 1
        else:
            assert torch.equal(after, before[name]), name
    assert shorter >= 2 * 3


def test_what_a_router_keeps_in_float32_keeps_its_precision(begin: Callable[..., Run]) -> None:
    model = silence(tiny("deepseek_v3"), [[0, 7], [3, 5]])
    for _, router in mixtures(model):
        router.e_score_correction_bias.normal_(0.3, 0.01)
    smaller = done(begin(model, step(0.25), EXPORT, dtype="bfloat16"))
    for (_, after), (_, before), gone in zip(mixtures(smaller), mixtures(model), [[0, 7], [3, 5]], strict=True):
        rows = [row for row in range(8) if row not in gone]
        assert torch.equal(after.e_score_correction_bias, before.e_score_correction_bias[rows])
        assert torch.equal(after.weight, before.weight[rows].bfloat16().float())


def test_groups_of_experts_stay_equally_large(begin: Callable[..., Run]) -> None:
    model = silence(tiny("deepseek_v3"), [[0, 1], [5, 6]])
    run = begin(model, step(0.25), EXPORT)
    assert len(mixtures(done(run))[0][0].down_proj) == 6
    for gone, silent in zip(removed(run), ({0, 1}, {5, 6}), strict=True):
        assert sorted(expert // 4 for expert in gone) == [0, 1]
        assert len(silent & set(gone)) == 1


def test_blocks_without_experts_are_left_alone(begin: Callable[..., Run]) -> None:
    model = silence(tiny("deepseek_v3", first_k_dense_replace=1), [[2, 4]])
    run = begin(model, step(0.25), EXPORT)
    smaller = done(run)
    assert removed(run) == [[2, 4]]
    assert torch.equal(smaller.model.layers[0].mlp.down_proj.weight, model.model.layers[0].mlp.down_proj.weight)


def test_the_setting_is_found_among_others_of_the_same_value(begin: Callable[..., Run]) -> None:
    changes = {"num_local_experts": 2, "num_experts_per_tok": 1}  # as many as key/value heads and blocks
    run = begin(silence(tiny("mixtral", **changes), [[1], [0]]), step(0.5), EXPORT)
    smaller = done(run)
    assert removed(run) == [[1], [0]]
    config = smaller.config
    assert (config.num_local_experts, config.num_key_value_heads, config.num_hidden_layers) == (1, 2, 2)


def test_a_configuration_that_does_not_say_the_number_of_experts_is_refused_early(tmp_path: Path) -> None:
    mine = subject("mixtral")
    mine.module.config.num_local_experts = 7
    options = PruneOptions(use="prune", pattern="experts", sparsity=0.34)
    with pytest.raises(UsageError, match="2 experts a layer instead of 3"):
        structured.check(workspace(tmp_path / "run", mine), options)


def test_a_tensor_counts_experts_in_one_dimension_or_the_guess_is_wrong() -> None:
    before = {"experts": (6, 4, 4), "router": (6, 4), "correction": (1, 6), "other": (6, 6)}
    smaller = {"experts": (5, 4, 4), "router": (5, 4), "correction": (1, 5), "other": (6, 6)}
    assert experts.shortened(before, smaller, 6, 5) == {"experts": 0, "router": 0, "correction": 1}
    for wrong in ({"other": (5, 5)}, {"other": (6, 4)}, {"other": (6,)}, {"router": (4, 4)}, {"more": (1,)}):
        assert experts.shortened(before, {**smaller, **wrong}, 6, 5) == {}


def test_experts_twice_and_then_weights(begin: Callable[..., Run]) -> None:
    model = silence(tiny("olmoe"), [[1, 4], [0, 3]])
    wanda = '[[step]]\nuse = "prune"\nsparsity = 0.5\n'
    run = begin(model, step(1 / 6), step(1 / 5), wanda, EXPORT)
    smaller = done(run)
    assert [sum(map(len, removed(run)[:2])), sum(map(len, removed(run)[2:]))] == [2, 2]
    for layer, _ in mixtures(smaller):
        assert layer.down_proj.shape[0] == 4
        assert 2 * int((layer.down_proj == 0).sum()) == layer.down_proj.numel()


def test_a_random_choice_depends_on_the_seed_alone(begin: Callable[..., Run]) -> None:
    model = silence(tiny("olmoe"), [[0, 1, 2], [3, 4, 5]])
    how = step(0.5, 'score = "random"')
    one, again, other = begin(model, how), begin(model, how), begin(model, how, seed=1)
    assert [execute(run) for run in (one, again, other)] == [0, 0, 0]
    assert removed(one) == removed(again) != removed(other)
    assert removed(one)[0] != removed(one)[1]
    assert run_summary(one)["activity_removed"] > 0


def run_summary(run: Run) -> dict[str, Any]:
    return run.state().steps[0].summary


def test_nothing_is_removed_at_sparsity_0(begin: Callable[..., Run]) -> None:
    model = tiny("mixtral")
    smaller = done(begin(model, step(0.0), EXPORT))
    assert torch.equal(logits(smaller), logits(model))


# Stopping and going on


@pytest.mark.parametrize(("kind", "number"), [(ev.PartsRemoved, 1), (ev.PartsRemoved, 2), (ev.StepFinished, 2)])
def test_resume_is_bit_identical(begin: Callable[..., Run], kind: type[ev.Event], number: int) -> None:
    model = tiny("qwen2_moe")
    whole, broken = (begin(model, step(0.5), EXPORT) for _ in range(2))
    done(whole)
    with pytest.raises(Killed):
        execute(broken, also=die_when(nth(kind, number)))
    done(broken)
    one, other = ((run.artifacts / "model" / "model.safetensors").read_bytes() for run in (whole, broken))
    assert one == other
    assert removed(broken)[-2:] == removed(whole)
    assert json.loads((broken.artifacts / "model" / "config.json").read_text())["num_experts"] == 3
    assert len(broken.state().removals) == 2


# What is refused


def refused(run: Run, *words: str) -> str:
    assert execute(run) == 2, run.state().failure
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    text = f"{failure.where} {failure.message} {failure.hint}"
    for word in words:
        assert word in text
    assert not list(run.checkpoints.glob("*.safetensors"))
    assert not any(isinstance(event, ev.StepStarted) for event in run.events()), "said before the work"
    return text


def test_a_model_without_experts(begin: Callable[..., Run]) -> None:
    refused(begin(tiny("llama"), step(0.5)), "no experts that could be removed", "step.0.pattern")


@pytest.mark.parametrize(
    ("name", "largest", "kept"), [("olmoe", 1 - 2 / 6, 2), ("deepseek_v3", 0.5, 4), ("mixtral", 1 - 2 / 3, 2)]
)
def test_too_few_would_stay(begin: Callable[..., Run], name: str, largest: float, kept: int) -> None:
    model = tiny(name)
    text = refused(begin(model, step(0.9)), "must stay", "step.0.sparsity", "largest sparsity")
    named = text.rsplit(" ", 1)[-1]
    assert float(named) == pytest.approx(largest, abs=1e-5)
    smaller = done(begin(model, step(float(named)), EXPORT))
    assert [len(layer.down_proj) for layer, _ in mixtures(smaller)] == [kept, kept]
    assert torch.isfinite(logits(smaller)).all()


def test_less_than_one_expert(begin: Callable[..., Run]) -> None:
    refused(begin(tiny("mixtral"), step(0.1)), "removes none of 3", "smallest sparsity", "0.333333")


def test_a_score_of_other_parts(begin: Callable[..., Run]) -> None:
    refused(begin(tiny("mixtral"), step(0.34, 'score = "flap"')), "step.0.score", "flap", "random")
