"""Structured pruning: useless parts leave without a trace, what plain transformers loads is the model that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import logits, tokens, workspace

from engine import events as ev
from engine import model, runs
from engine.errors import Cancelled, UsageError
from engine.profile import ModelOptions
from engine.pruning import structured
from engine.pruning.narrowing import bias_of, prefixes, view
from engine.pruning.options import PruneOptions
from engine.pruning.parts import links
from engine.pruning.structured import Job, Smaller
from engine.pruning.structures import hidden
from engine.registry import STRUCTURES
from engine.subject import Origin, Subject
from engine.weights import save_language_model
from engine.workspace import Workspace

PLAIN = ["llama", "qwen2", "gpt_neox", "opt", "gpt2", "gemma", "gemma2", "gemma3_text"]
GROUPED = ["llama", "qwen2", "gemma", "gemma2", "gemma3_text", "mixtral"]  # a head's size is free there
STREAMS = GROUPED
BLOCKS = [*PLAIN, "mixtral", "olmoe"]
FITTING = [("channels", name) for name in PLAIN] + [("heads", name) for name in GROUPED]
FITTING += [("hidden", name) for name in STREAMS] + [("blocks", name) for name in BLOCKS]
SHARES = {"channels": 0.25, "heads": 0.5, "hidden": 0.25, "blocks": 0.34}


def three_blocks(name: str, **changes: Any) -> Subject:
    return subject(name, **{"n_layer" if name == "gpt2" else "num_hidden_layers": 3}, **changes)


def options(pattern: str, **changes: Any) -> PruneOptions:
    return PruneOptions(use="prune", pattern=pattern, **{"sparsity": SHARES[pattern], **changes})


def prune(folder: Path, mine: Subject, pattern: str, chunk: int | None = None, **changes: Any) -> Workspace:
    space = workspace(folder / "run", mine, chunk=chunk)
    structured.check(space, options(pattern, **changes))
    summary = structured.run(space, options(pattern, **changes))
    json.dumps(summary)
    space.summary = summary
    return space


def same(a: Subject, b: Subject) -> bool:
    mine, other = a.module.state_dict(), b.module.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def plant(mine: Subject, pattern: str, space: Workspace) -> list[int]:
    """Makes some parts useless, the same in every block; returns which."""
    if pattern == "blocks":
        block = mine.blocks()[1]
        for parameter_name, parameter in block.named_parameters():
            writes = any(parameter_name in (link.consumer, bias_of(link.consumer)) for link in links(mine)[1])
            if writes or parameter.ndim == 3 or "post_" in parameter_name:
                parameter.data.zero_()
                if "norm" in parameter_name:  # stored as a difference from one, or not: zero output either way
                    parameter.data.fill_(-1.0 if mine.module.config.model_type.startswith("gemma") else 0.0)
        return [1]
    if pattern == "hidden":
        useless = [3, 4, 9, 17, 20, 25, 30, 31]
        for name, axes in hidden.plan(Job(space, options(pattern))).axes.items():
            parameter = mine.module.get_parameter(name)
            if parameter.ndim > 1 or "bias" in name:
                for axis in axes:
                    parameter.data.index_fill_(axis, torch.tensor(useless), 0)
        return useless
    useless = list(range(5, 21)) if pattern == "channels" else [0]
    for block, found in zip(mine.blocks(), links(mine), strict=True):
        (link,) = (one for one in found if (one.width > 1) == (pattern == "heads"))
        gone = torch.tensor(useless)
        view(block.get_parameter(link.consumer).data, link)[:, link.columns(gone)] = 0
    return useless


@pytest.mark.parametrize(("pattern", "name"), FITTING)
def test_useless_parts_leave_without_a_trace(pattern: str, name: str, tmp_path: Path) -> None:
    mine = three_blocks(name, **({"n_inner": 64} if name == "gpt2" else {}))
    space = workspace(tmp_path / "run", mine)
    useless = plant(mine, pattern, space)
    before, parameters = logits(mine), mine.parameters
    structured.run(space, options(pattern))
    assert space.subject.parameters < parameters
    for event in space.state.removals:
        assert event.removed == useless
        assert event.error is None or event.error < 1e-4
    loose = 2e-3 if pattern == "hidden" else 1e-4  # the norms' epsilon is a share of fewer dimensions
    torch.testing.assert_close(logits(space.subject), before, atol=loose * float(before.abs().max()), rtol=loose)


@pytest.mark.parametrize(("pattern", "name"), FITTING)
def test_plain_transformers_loads_what_was_measured(pattern: str, name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    space = prune(tmp_path, three_blocks(name), pattern)
    save_language_model(space.subject, tmp_path / "out", torch.float32)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(again) is type(space.subject.module)
    inputs = tokens(2, 30, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=inputs).logits, logits(space.subject), atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in again.parameters()) == space.subject.parameters
    again_subject = model.reload(
        ModelOptions(source="x", device="cpu", dtype="float32"), _with_tokenizer(tmp_path / "out")
    )
    assert same(again_subject, space.subject)
    with torch.no_grad():
        generated = again.generate(inputs[:1, :5], max_new_tokens=4, do_sample=False)
    assert generated.shape[1] <= 9, "the cache fits the new shapes"


def _with_tokenizer(folder: Path) -> Path:
    from fixtures.models import tokenizer

    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pattern", sorted(SHARES))
def test_a_finished_step_is_put_back_as_it_was(pattern: str, tmp_path: Path) -> None:
    space = prune(tmp_path, three_blocks("qwen2"), pattern)
    left = space.subject
    space.subject = three_blocks("qwen2")
    structured.restore(space, options(pattern))
    assert same(left, space.subject)
    assert left.origin == space.subject.origin
    assert type(left.module.config) is type(space.subject.module.config)
    assert left.module.config.to_dict() == space.subject.module.config.to_dict()


@pytest.mark.parametrize("pattern", ["channels", "heads"])
def test_a_step_that_was_stopped_ends_with_the_same_weights(pattern: str, tmp_path: Path) -> None:
    whole = prune(tmp_path / "a", three_blocks("llama"), pattern)
    space = workspace(tmp_path / "b", three_blocks("llama"))
    space.should_stop = lambda: len(space.state.removals) == 2
    with pytest.raises(Cancelled):
        structured.run(space, options(pattern))
    space.should_stop = lambda: False
    space.subject = three_blocks("llama")
    assert structured.run(space, options(pattern)) == whole.summary, "the error is the mean over all blocks"
    assert same(whole.subject, space.subject)
    assert not list(space.run.checkpoints.glob("*block*")), "the whole model is kept instead"
    assert [event.done for event in space.state.removals] == [1, 2, 3]


@pytest.mark.parametrize("pattern", sorted(SHARES))
def test_the_same_seed_gives_the_same_model_also_in_chunks(pattern: str, tmp_path: Path) -> None:
    one, two = (prune(tmp_path / str(i), three_blocks("llama"), pattern).subject for i in range(2))
    assert same(one, two)
    chunked = prune(tmp_path / "chunks", three_blocks("llama"), pattern, chunk=2).subject
    torch.testing.assert_close(logits(chunked), logits(one), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("pattern", STRUCTURES.names())
def test_states_on_disk_give_what_states_in_memory_give(pattern: str, chunk: int | None, tmp_path: Path) -> None:
    spaces = []
    for states in ("memory", "disk"):
        mine = three_blocks("olmoe" if pattern == "experts" else "llama")
        space = workspace(tmp_path / states, mine, chunk=chunk)
        calibration = space.profile.calibration.model_copy(update={"states": states})
        space.profile = space.profile.model_copy(update={"calibration": calibration})
        share = {"sparsity": SHARES.get(pattern, 0.5)}
        space.summary = structured.run(space, PruneOptions(use="prune", pattern=pattern, **share))
        spaces.append(space)
    memory, disk = spaces
    assert same(memory.subject, disk.subject)
    assert memory.summary == disk.summary
    told = [[(event.block, event.removed, event.error) for event in space.state.removals] for space in spaces]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", PLAIN)
def test_compensation_pays(name: str, tmp_path: Path) -> None:
    """Channels: the error of what reads them, on the calibration data, and with biases too."""
    errors = {}
    for compensate in (True, False):
        space = prune(tmp_path / str(compensate), three_blocks(name), "channels", compensate=compensate)
        errors[compensate] = space.state.removals[0].error or 0.0
    assert errors[True] < errors[False]


@pytest.mark.parametrize("score", ["obs", "flap", "minitron", "magnitude", "random"])
def test_every_score_makes_a_working_model(score: str, tmp_path: Path) -> None:
    space = prune(tmp_path, three_blocks("llama"), "channels", score=score)
    assert torch.isfinite(logits(space.subject)).all()
    assert {len(event.removed) for event in space.state.removals} == {16}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", sorted(SHARES))
def test_number_formats_and_devices(pattern: str, dtype: torch.dtype, device: str, tmp_path: Path) -> None:
    mine = three_blocks("qwen2")
    mine.module.to(device=device, dtype=dtype)
    left = prune(tmp_path, mine, pattern).subject
    assert left.dtype == dtype
    assert left.device.type == device
    assert not any(p.requires_grad for p in left.module.parameters())
    assert torch.isfinite(logits(left)).all()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("heads", "opt"), ("heads", "gpt2"), ("heads", "gpt_neox"), ("heads", "olmoe"), ("hidden", "opt"), ("hidden", "gpt2"),
     ("hidden", "gpt_neox"), ("hidden", "olmoe"), ("channels", "mixtral"), ("channels", "olmoe")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_changes(pattern: str, name: str, tmp_path: Path) -> None:
    mine = three_blocks(name)
    before = {key: value.clone() for key, value in mine.module.state_dict().items()}
    with pytest.raises(UsageError) as refused:
        structured.check(workspace(tmp_path / "run", mine), options(pattern))
    assert pattern in str(refused.value) or pattern in f"{refused.value.message}"
    assert refused.value.hint
    assert all(torch.equal(value, before[key]) for key, value in mine.module.state_dict().items())


def test_a_score_that_does_not_suit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="influence"):
        structured.check(workspace(tmp_path / "run", three_blocks("llama")), options("channels", score="influence"))


def test_heads_go_with_their_key_value_head(tmp_path: Path) -> None:
    config = prune(tmp_path, three_blocks("llama"), "heads").subject.module.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 8)


def test_a_number_of_heads_that_the_model_cannot_have_gives_way_to_the_next(tmp_path: Path) -> None:
    mine = three_blocks("llama", num_attention_heads=8, num_key_value_heads=8, head_dim=8)
    space = prune(tmp_path, mine, "heads", sparsity=0.375)  # 5 heads do not divide a hidden size of 32
    assert space.subject.module.config.num_attention_heads == 4
    assert [line.message for line in space.state.log] == ["4 of 8 stay: no model of this kind has 5"], "said once"


def test_a_hidden_size_that_the_model_cannot_have_gives_way_to_the_next(tmp_path: Path) -> None:
    space = prune(tmp_path, three_blocks("llama"), "hidden", sparsity=0.2, multiple=1)
    size = space.subject.module.config.hidden_size
    assert size != 26
    assert [line.message for line in space.state.log] == [f"hidden size {size}: no model of this kind has 26"]


def test_one_key_value_head_for_all_still_lets_query_heads_go(tmp_path: Path) -> None:
    space = prune(tmp_path, three_blocks("llama", num_key_value_heads=1), "heads")
    config = space.subject.module.config
    assert (config.num_attention_heads, config.num_key_value_heads) == (2, 1)


def test_two_steps_of_structure_and_origins_in_the_dense_model(tmp_path: Path) -> None:
    mine = subject("llama", num_hidden_layers=5)
    first = prune(tmp_path / "a", mine, "blocks", sparsity=0.4).subject
    second = prune(tmp_path / "b", first, "blocks", sparsity=0.34).subject
    assert first.origin.blocks is not None
    assert second.origin.blocks is not None
    assert set(second.origin.blocks) < set(first.origin.blocks) < set(range(5))
    third = prune(tmp_path / "c", second, "hidden").subject
    assert third.origin.blocks == second.origin.blocks
    assert len(third.origin.hidden or []) == 24
    fourth = prune(tmp_path / "d", third, "channels").subject
    assert fourth.origin == third.origin


def test_a_smaller_model_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    mine = three_blocks("llama")
    state = {name: tensor.clone() for name, tensor in mine.module.state_dict().items()}
    state["model.layers.0.mlp.down_proj.weight"] *= -1
    made = structured.built(mine, Smaller({}, state, Origin()))
    with pytest.raises(UsageError, match="computes something else"):
        structured.check_same(mine, made, "channels")
    del state["model.layers.0.mlp.down_proj.weight"]
    with pytest.raises(UsageError, match="down_proj"):
        structured.built(mine, Smaller({}, state, Origin()))


def test_what_is_told(tmp_path: Path) -> None:
    space = prune(tmp_path, three_blocks("llama"), "channels")
    summary = space.summary
    blocks = 3 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 64)
    assert summary["removed_of_blocks"] == pytest.approx(3 * 3 * 32 * 16 / blocks)
    assert summary["kept"] == 48
    assert prefixes(space.subject) == [f"model.layers.{i}" for i in range(3)]
    assert all(isinstance(event, ev.PartsRemoved) for event in space.state.removals)
    assert runs.read_json(space.checkpoint("smaller.json"))["config"] == {"intermediate_size": 48}
