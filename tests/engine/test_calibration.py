"""The walk: every architecture's matrices are found, meet their true inputs, and the model computes what it always did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import ARCHITECTURES, DEVICES, VOCABULARY, subject
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.calibration import Walk
from engine.fitting import fast_compute, fitting_chunk
from engine.matrices import SAMPLE, Matrix, Statistics
from engine.pruning.criterion import Settings
from engine.pruning.masks import Pattern
from engine.registry import CRITERIA
from engine.subject import Subject

SAMPLES, LENGTH = 6, 80  # longer than the sliding windows
EXPERTS = [name for name, config in ARCHITECTURES.items() if any("experts" in key for key in config)]


def tokens(samples: int = SAMPLES, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (samples, length), generator=torch.Generator().manual_seed(7))


def walk_over(model: Subject, chunk: int = SAMPLES) -> Walk:
    return Walk(model, tokens(), chunk, torch.float32)


def pruner(criterion: str, seen: dict[str, Statistics] | None = None) -> Callable[[list[Matrix], Statistics], None]:
    """Prunes half of every matrix in place; keeps each one's statistics in `seen`."""
    how = CRITERIA.load(criterion).CRITERION

    def action(matrices: list[Matrix], statistics: Statistics) -> None:
        for matrix in matrices:
            if seen is not None:
                assert matrix.name not in seen, "a matrix is handed over once"
                seen[matrix.name] = statistics
            pattern = Pattern(0.5, scope=how.scope)
            generator = torch.Generator().manual_seed(0)
            matrix.weight.copy_(how.prune([matrix.weight], statistics, [pattern], Settings(), [generator])[0])

    return action


def test_outputs_take_the_files_of_discarded_inputs_alone(tmp_path: Path) -> None:
    walk = Walk(subject("llama"), tokens(), 4, torch.float32, spill=tmp_path / "states")
    with walk.context():
        hidden, calls = walk.enter()
        before = [part.clone() for part in hidden]
        kept = walk.forward(0, calls[0], hidden)
        walk.pass_through(0, calls[0], hidden)
        assert all(torch.equal(part, old) for part, old in zip(hidden, before, strict=True))
        places = [part.data_ptr() for part in hidden]
        written = walk.forward(0, calls[0], hidden, discard=True)
    assert [part.data_ptr() for part in written] == places
    assert all(torch.equal(one, other) for one, other in zip(kept, written, strict=True))


def watcher(seen: dict[str, Statistics]) -> Callable[[list[Matrix], Statistics], None]:
    def action(matrices: list[Matrix], statistics: Statistics) -> None:
        seen.update({matrix.name: statistics for matrix in matrices})

    return action


def go(walk: Walk, action: Any, want_gram: bool = True) -> None:
    assert list(walk.run(lambda block: action, want_gram)) == list(range(walk.blocks()))


def product_modules(model: Subject) -> dict[str, nn.Module]:
    """The Linear and Conv1D modules of the blocks, by the name of their weight."""
    blocks = {id(m) for block in model.blocks() for m in block.modules()}
    return {
        f"{name}.weight": module
        for name, module in model.module.named_modules()
        if id(module) in blocks and type(module).__name__ in ("Linear", "Conv1D")
    }


@contextmanager
def recorded(modules: dict[Any, nn.Module], what: str) -> Iterator[dict[Any, torch.Tensor]]:
    """The last input or output of each module."""
    kept: dict[Any, torch.Tensor] = {}

    def hook(key: Any) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            kept[key] = args[0] if what == "inputs" else out

        return note

    hooks = [module.register_forward_hook(hook(key)) for key, module in modules.items()]
    try:
        yield kept
    finally:
        for handle in hooks:
            handle.remove()


def plain_forward(model: Subject) -> None:
    with torch.inference_mode():
        model.module.base_model(tokens().to(model.device), use_cache=False)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nearly_all_block_weights_are_matrices(name: str) -> None:
    model = subject(name)
    walk = walk_over(model)
    weights = sum(p.numel() for block in model.blocks() for p in block.parameters() if p.ndim >= 2)
    assert sum(m.weight.numel() for m in walk.matrices) >= 0.95 * weights
    names = [matrix.name for matrix in walk.matrices]
    assert len(names) == len(set(names))
    assert {matrix.block for matrix in walk.matrices} == {0, 1}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_matrix_is_a_view_of_its_parameter(name: str) -> None:
    model = subject(name)
    parameters = dict(model.module.named_parameters())
    walk = walk_over(model)
    with torch.no_grad():
        for number, matrix in enumerate(walk.matrices, start=2):
            matrix.weight.fill_(number)
    for number, matrix in enumerate(walk.matrices, start=2):
        stem, _, index = matrix.name.partition("[")
        parameter = parameters[stem][int(index[:-1])] if index else parameters[stem]
        assert sorted(parameter.shape) == sorted(matrix.shape)
        assert (parameter == number).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("chunk", [SAMPLES, 4])
def test_walking_past_computes_what_the_plain_model_does(name: str, chunk: int) -> None:
    model = subject(name)
    blocks = dict(enumerate(model.blocks()))
    with recorded(blocks, "outputs") as plain:
        plain_forward(model)
    with recorded(blocks, "outputs") as walked:
        list(walk_over(model, chunk).run(lambda block: None, want_gram=False))
    for index in blocks:
        expected = plain[index][-len(walked[index]) :]  # the last chunk
        torch.testing.assert_close(walked[index], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = subject(name)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    go(walk_over(model, 4), watcher({}))
    assert all(torch.equal(value, before[key]) for key, value in model.module.state_dict().items())
    assert all("forward" not in block.__dict__ and not block._forward_hooks for block in model.blocks())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("chunk", [SAMPLES, 4], ids=["single-pass", "two-pass"])
def test_pruning_leaves_exactly_half_everywhere(name: str, criterion: str, chunk: int, device: str) -> None:
    model = subject(name)
    model.module.to(device)
    walk = walk_over(model, chunk)
    seen: dict[str, Statistics] = {}
    go(walk, pruner(criterion, seen))
    assert seen.keys() == {matrix.name for matrix in walk.matrices}
    for matrix in walk.matrices:
        zeros = matrix.weight == 0
        assert int(zeros.sum()) * 2 == matrix.weight.numel(), matrix.name
        assert torch.isfinite(matrix.weight).all()
        if criterion == "wanda":
            assert (zeros.sum(1) * 2 == matrix.shape[1]).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_single_pass_statistics_are_of_the_inputs_met_in_the_finished_model(name: str, criterion: str) -> None:
    """True sequential: a matrix's input already contains the error of everything that was pruned before it."""
    model = subject(name)
    seen: dict[str, Statistics] = {}
    go(walk_over(model), pruner(criterion, seen))
    modules = {key: module for key, module in product_modules(model).items() if key in seen}
    assert modules
    with recorded(modules, "inputs") as inputs:
        plain_forward(model)
    for key, x in inputs.items():
        x_TI = x.reshape(-1, x.shape[-1]).double()
        gram = (x_TI.T @ x_TI / len(x_TI)).float()
        found = seen[key]
        assert found.tokens == len(x_TI)
        assert found.gram is not None
        scale = float(gram.diagonal().mean())
        torch.testing.assert_close(found.gram, gram, atol=1e-4 * scale, rtol=1e-3)
        torch.testing.assert_close(found.mean_squares, gram.diagonal(), atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_chunks_add_up_to_the_whole(name: str) -> None:
    model = subject(name)
    whole: dict[str, Statistics] = {}
    parts: dict[str, Statistics] = {}
    go(walk_over(model), watcher(whole))
    go(walk_over(model, 4), watcher(parts))
    assert whole.keys() == parts.keys()
    for key, one in whole.items():
        assert parts[key].tokens == one.tokens
        torch.testing.assert_close(parts[key].gram, one.gram, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(parts[key].mean_squares, one.mean_squares, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "opt", "gemma"])
def test_matrices_with_one_input_are_one_group(name: str) -> None:
    walk = walk_over(subject(name))
    short = {matrix.name.rsplit(".", 2)[-2]: matrix.group for matrix in walk.of_block(1)}
    assert short["q_proj"] == short["k_proj"] == short["v_proj"]
    out = "out_proj" if name == "opt" else "o_proj"
    assert short[out] != short["q_proj"]
    if name != "opt":
        assert short["gate_proj"] == short["up_proj"] not in (short["q_proj"], short[out], short["down_proj"])


@pytest.mark.parametrize("chunk", [SAMPLES, 4])
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_experts_that_no_token_reaches_are_pruned_by_magnitude(chunk: int, criterion: str) -> None:
    model = subject("mixtral", num_local_experts=4, num_experts_per_tok=1)
    for name, parameter in model.module.named_parameters():
        if tuple(parameter.shape) == (4, 32):  # the router: +v, -v, 0, 0, so that one of the first two always wins
            assert "gate" in name
            parameter.data[1] = -parameter.data[0]
            parameter.data[2:] = 0
    walk = walk_over(model, chunk)
    before = {matrix.name: matrix.weight.clone() for matrix in walk.matrices}
    seen: dict[str, Statistics] = {}
    go(walk, pruner(criterion, seen))
    unreached = [name for name, statistics in seen.items() if statistics.tokens == 0]
    assert sorted(name[-3:] for name in unreached) == ["[2]"] * 4 + ["[3]"] * 4
    how = CRITERIA.load(criterion).CRITERION
    for matrix in walk.matrices:
        assert int((matrix.weight == 0).sum()) * 2 == matrix.weight.numel()
        if matrix.name in unreached:
            keep = Pattern(0.5, scope=how.scope).keep(before[matrix.name].abs())
            torch.testing.assert_close(matrix.weight, before[matrix.name] * keep)


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_see_their_own_tokens_only(name: str) -> None:
    model = subject(name)
    seen: dict[str, Statistics] = {}
    go(walk_over(model), watcher(seen))
    routed = ARCHITECTURES[name]["num_experts_per_tok"] * SAMPLES * LENGTH
    per_block: dict[str, int] = {}
    for key, statistics in seen.items():
        if key.endswith("]") and "gate_up" in key:
            block = key.partition(".mlp")[0]
            per_block[block] = per_block.get(block, 0) + statistics.tokens
    assert list(per_block.values()) == [routed, routed]


def test_bfloat16_compute_leaves_the_weights_in_float32() -> None:
    model = subject("llama")
    walk = Walk(model, tokens(), SAMPLES, torch.bfloat16)
    seen: dict[str, Statistics] = {}
    go(walk, pruner("sparsegpt", seen))
    assert all(s.gram is not None and s.gram.dtype == s.mean_squares.dtype == torch.float32 for s in seen.values())
    assert all(
        m.weight.dtype == torch.float32 and 2 * int((m.weight == 0).sum()) == m.weight.numel() for m in walk.matrices
    )


def test_a_module_that_is_no_language_model_is_one_block() -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(False)
    x = torch.randn(50, 16)
    walk = Walk(Subject(module, "here", "f"), x, 50, torch.float32)
    seen: dict[str, Statistics] = {}
    go(walk, watcher(seen))
    assert [(m.name, m.shape) for m in walk.matrices] == [("0.weight", (8, 16)), ("2.weight", (2, 8))]
    torch.testing.assert_close(seen["0.weight"].gram, x.T @ x / 50)
    hidden = module[1](module[0](x))
    torch.testing.assert_close(seen["2.weight"].gram, hidden.T @ hidden / 50)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=4), st.integers(1, 6), st.booleans())
def test_merged_statistics_are_those_of_all_tokens(sizes: list[int], width: int, want_gram: bool) -> None:
    x = torch.randn(sum(sizes), width, generator=torch.Generator().manual_seed(sum(sizes)))
    parts = [Statistics.of(part, want_gram) for part in x.split(sizes)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    whole = Statistics.of(x, want_gram)
    assert merged.tokens == whole.tokens == len(x)
    torch.testing.assert_close(merged.mean_squares, x.square().mean(0), atol=1e-5, rtol=1e-4)
    assert (merged.gram is not None) == want_gram
    if merged.gram is not None:
        torch.testing.assert_close(merged.gram, x.T @ x / len(x), atol=1e-5, rtol=1e-4)
    for one in (merged, whole):
        assert 0 < len(one.rows) <= SAMPLE
        assert {tuple(row) for row in one.rows.tolist()} <= {tuple(row) for row in x.tolist()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_chunk_fits_and_is_never_nothing(name: str) -> None:
    model = subject(name)
    assert fitting_chunk(model, 5, 16) == 5
    assert fitting_chunk(model, 5, 10**12) == 1
    assert fast_compute(model.device) in (torch.float32, torch.bfloat16)


def test_a_walk_that_is_left_midway_leaves_no_mode_behind() -> None:
    """Whoever stops between two blocks computes gradients as before, and in the number format of before."""
    walk = Walk(subject("llama"), torch.zeros(2, 8, dtype=torch.long), 2, torch.bfloat16)
    steps = walk.run(lambda index: None, want_gram=False)
    assert next(steps) == 0
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert list(steps) == [1]
