"""Bits under a budget: the budget holds, more bytes cost less, the choice is the best by brute force, exports hold it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import logits, tokens, workspace
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine.calibration import Walk
from engine.errors import UsageError
from engine.export import served
from engine.export.formats import compressed_tensors, sparse
from engine.export.options import ExportOptions
from engine.grams import Grams
from engine.matrices import Matrix
from engine.profile import ModelOptions
from engine.quantization import step, widths
from engine.quantization.options import WIDTHS, QuantizeOptions


def options(ratio: float, symmetric: bool = True) -> QuantizeOptions:
    return QuantizeOptions(use="quantize", method="rtn", size_ratio=ratio, symmetric=symmetric, trial_windows=2)


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_the_choice_is_nearly_the_best_there_is(seed: int, share: float) -> None:
    """Of convex costs: no set of widths within the budget is better by more than one upgrade of the least matrix."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [Matrix(f"m{index}", 0, torch.zeros(32, 32), index) for index in range(4)]
    found = {}
    for matrix in matrices:
        steepness = float(torch.rand((), generator=generator)) + 0.01
        found[matrix.name] = [steepness * 4.0**-width for width in WIDTHS]
    asked = options(0.5)
    sizes = [widths.bytes_of(matrices[0], width, asked) for width in WIDTHS]
    room = 4 * (sizes[0] + share * (sizes[-1] - sizes[0]))
    chosen = widths.cheapest(found, matrices, asked, room)
    assert sum(sizes[WIDTHS.index(width)] for width in chosen.values()) <= room + 1e-9

    def cost(bits: tuple[int, ...]) -> float:
        return sum(found[m.name][WIDTHS.index(width)] for m, width in zip(matrices, bits, strict=True))

    within = [bits for bits in itertools.product(WIDTHS, repeat=4)
              if sum(sizes[WIDTHS.index(width)] for width in bits) <= room - (sizes[2] - sizes[0])]  # fmt: skip
    if within:
        assert cost(tuple(chosen.values())) <= min(map(cost, within)) + 1e-12


@pytest.mark.parametrize("ratio", [0.69, 0.71])
def test_the_budget_holds_and_the_plan_is_told(ratio: float, tmp_path: Path) -> None:
    mine = subject("llama")
    told: list[ev.Event] = []
    at = workspace(tmp_path / "run", mine, told=told)
    whole = mine.bytes
    step.run(at, options(ratio))
    plan = next(event for event in told if isinstance(event, ev.BitsPlanned))
    assert mine.quantized is not None
    assert {name: form.bits for name, form in mine.quantized.formats.items()} == plan.bits
    assert len(set(plan.bits.values())) > 1
    matrices = Walk.over(at).matrices
    other = whole - sum(4 * matrix.weight.numel() for matrix in matrices)
    taken = other + sum(widths.bytes_of(matrix, plan.bits[matrix.name], options(ratio)) for matrix in matrices)
    assert 0.97 * ratio * whole < taken <= ratio * whole


def test_the_model_is_as_before_while_it_is_tried(tmp_path: Path) -> None:
    mine = subject("llama")
    before = logits(mine)
    at = workspace(tmp_path / "run", mine)
    found = widths.costs(at, Walk.over(at), options(0.70))
    assert torch.equal(logits(mine), before)
    assert all(costs == sorted(costs, reverse=True) for costs in found.values()), "more bits cost less"
    assert sum(costs[0] for costs in found.values()) > 0


def test_a_block_that_matters_more_gets_more_bits(tmp_path: Path) -> None:
    """The second block hardly says anything."""
    mine = subject("llama")
    for name, parameter in mine.blocks()[1].named_parameters():
        if "o_proj" in name or "down_proj" in name:
            parameter.mul_(1e-4)
    step.run(workspace(tmp_path / "run", mine), options(0.70))
    assert mine.quantized is not None
    mean = [sum(form.bits for name, form in mine.quantized.formats.items() if f"layers.{i}." in name) for i in range(2)]
    assert mean[0] > mean[1]
    assert tokens().shape == (6, 40)


def test_a_matrix_whose_output_is_hardly_read_costs_little(tmp_path: Path) -> None:
    """Values are as large as ever and go through a projection that makes little of them."""
    mine = subject("llama")
    for name, parameter in mine.module.named_parameters():
        if "o_proj" in name:
            parameter.mul_(1e-3)
    at = workspace(tmp_path / "run", mine)
    found = widths.costs(at, Walk.over(at), options(0.70))
    least = min(costs[0] for name, costs in found.items() if "down_proj" in name)
    assert max(costs[0] for name, costs in found.items() if "v_proj" in name) < 0.05 * least


def test_an_expert_that_no_token_reached_costs_nothing(tmp_path: Path) -> None:
    mine = subject("mixtral", num_local_experts=4, num_experts_per_tok=1)
    for block in mine.blocks():
        gate = next(parameter for name, parameter in block.named_parameters() if name.endswith("gate.weight"))
        gate[2:] = 0.0
        gate[1] = -gate[0]  # one of these two is above zero
    at = workspace(tmp_path / "run", mine)
    found = widths.costs(at, Walk.over(at), options(0.70))
    grams = Grams.of(at, Walk.over(at))
    met = {m.name: s.tokens for block in range(Walk.over(at).blocks()) for ms, s in grams.groups(block) for m in ms}
    unmet = [name for name, tokens in met.items() if not tokens]
    assert unmet
    assert all(found[name] == [0.0, 0.0, 0.0][: len(found[name])] for name in unmet)
    assert any(found[name][0] > 0 for name in met if "experts" in name)


def test_a_budget_below_three_bits_is_refused_with_the_least(tmp_path: Path) -> None:
    mine = subject("llama")
    before = {name: value.clone() for name, value in mine.module.state_dict().items()}
    with pytest.raises(UsageError, match="3 bits everywhere are") as error:
        step.run(workspace(tmp_path / "run", mine), options(0.3))
    assert error.value.hint is not None
    assert all(torch.equal(value, before[name]) for name, value in mine.module.state_dict().items())
    smallest = float(error.value.hint.split()[2].rstrip(","))
    step.check_options(mine, Walk.over(workspace(tmp_path / "run", mine)).matrices, options(smallest))


def test_layers_of_different_bits_are_read_back(tmp_path: Path) -> None:
    from fixtures.models import tokenizer
    from transformers import AutoModelForCausalLM

    from engine.subject import Subject

    mine = subject("llama")
    step.run(workspace(tmp_path / "run", mine), options(0.70))
    for form in (compressed_tensors, sparse):
        folder = tmp_path / form.NAME
        folder.mkdir()
        form.write(mine, folder, torch.float32)
    packed = AutoModelForCausalLM.from_pretrained(tmp_path / compressed_tensors.NAME, dtype=torch.float32).eval()
    assert torch.equal(logits(Subject(packed, "x", "x", tokenizer())), logits(mine))
    reading = ModelOptions(source="x", device="cpu", dtype="float32")
    assert torch.equal(logits(sparse.read(reading, tmp_path / sparse.NAME)), logits(mine))


@pytest.mark.parametrize("later", ["compressed_tensors", "sparse"])
def test_layers_that_a_reader_fuses_get_the_same_bits_where_it_is_to_read_them(later: str, tmp_path: Path) -> None:
    mine = subject("llama")
    for name, parameter in mine.module.named_parameters():
        parameter.mul_(1e-3 if "q_proj" in name or "gate_proj" in name else 1.0)  # v and up matter most by far
    at = workspace(tmp_path / "run", mine)
    asked, ratio = options(0.70), 0.70
    at.profile = at.profile.model_copy(update={"step": [asked, ExportOptions(use="export", format=later)]})
    whole, matrices = mine.bytes, Walk.over(at).matrices
    step.run(at, asked)
    assert mine.quantized is not None
    bits = {name: form.bits for name, form in mine.quantized.formats.items()}
    groups: dict[tuple[int, int], set[int]] = {}
    for matrix in matrices:
        groups.setdefault((matrix.block, matrix.group), set()).add(bits[matrix.name])
    assert any(len(found) > 1 for found in groups.values()) == (later == "sparse")
    assert len(set(bits.values())) > 1
    assert bool(served.doubts(mine.quantized.formats)) == (later == "sparse" or 3 in bits.values())
    other = whole - sum(4 * matrix.weight.numel() for matrix in matrices)
    taken = other + sum(widths.bytes_of(matrix, bits[matrix.name], asked) for matrix in matrices)
    assert taken <= ratio * whole


def test_what_transformers_cannot_read_is_refused() -> None:
    with pytest.raises(UsageError, match="different bits"):
        compressed_tensors.check(subject("llama"), step.format_of(options(0.70, symmetric=False)))
