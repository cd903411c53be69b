"""Editing shares by hand: the laws of the numbers, and that they are the engine's. The pane is in `test_shares_pane`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tomli
import torch
from hypothesis import given
from hypothesis import strategies as st
from recorded import MINE, RECORDED

from engine import events as ev
from engine import profile
from engine.errors import Unavailable, UsageError
from engine.matrices import Matrix
from engine.pruning.allocation import check_shares
from engine.pruning.balance import HIGHEST
from engine.pruning.options import PruneOptions
from engine.state import RunState
from tui.names import block_of, short
from tui.shares import EXACT, Shares, Sizes, editable, shares, sizes_of_model, sizes_of_run
from tui.widgets import drafts


def strip(values: dict[int, float], target: float = 0.5) -> Shares:
    return Shares(0, target, {block: 100 + 10 * block for block in values}, values)


def sizes_of(blocks: int) -> Sizes:
    return {block: {f"{block}.a": 10, f"{block}.mlp.up_proj": 30} for block in range(blocks)}


@given(st.dictionaries(st.integers(0, 40), st.floats(0.2, 0.8).map(lambda x: round(x, 3)), min_size=3, max_size=30),
       st.integers(0, 29), st.sampled_from([-0.05, -0.01, 0.01, 0.05]), st.floats(0.3, 0.7))  # fmt: skip
def test_balancing_meets_the_target_and_leaves_what_hands_changed(
    values: dict[int, float], at: int, by: float, target: float
) -> None:
    edited = strip(dict(values), round(target, 3))
    edited.move(at)
    edited.change(by)
    chosen, value = edited.block, edited.values[edited.block]
    met = edited.balance()
    assert edited.values[chosen] == pytest.approx(value, abs=1e-4)
    assert all(0 <= share <= HIGHEST for share in edited.values.values())
    assert met == (abs(edited.mean - edited.target) < EXACT)
    moved = {round(edited.values[b] - values[b], 3) for b in values if b != chosen and 0 < edited.values[b] < HIGHEST}
    assert not moved or max(moved) - min(moved) <= 0.0021  # all by one number


def test_the_cursor_and_the_shares_stay_in_bounds() -> None:
    edited = strip({0: 0.5, 1: 0.985})
    edited.move(-3)
    assert edited.block == 0
    edited.move(9)
    edited.change(0.05)
    assert edited.values == {0: 0.5, 1: HIGHEST}
    assert edited.changed
    edited.reset()
    assert not edited.changed


def test_what_is_kept_reads_back_through_the_profile() -> None:
    edited = strip({0: 0.45, 1: 0.55})
    edited.matrices = {"h.0.mlp.weight": 0.1}
    key, value = drafts.value(edited.keep())
    assert key == "step.0.shares"
    assert value == {"0": 0.45, "1": 0.55, "h.0.mlp.weight": 0.1}
    text = profile.edit(MINE, {key: value})
    assert "# half" in text
    read = tomli.loads(text)["step"]
    assert read[0]["shares"] == value
    assert read[1:] == tomli.loads(MINE)["step"][1:]
    again = profile.edit(text, {"step.0.seed": 3})  # a key that is added later stays in the step
    assert tomli.loads(again)["step"][0]["seed"] == 3


def test_only_steps_whose_blocks_can_differ_are_edited() -> None:
    checked = profile.parse(MINE, "mine")
    assert editable(checked) == [0, 2]
    own = shares(checked, 2, sizes_of(3), {})
    assert own.values == {0: 0.7, 1: 0.7, 2: 0.5}
    assert list(own.matrices) == ["model.layers.0.mlp.up_proj.weight"]


def test_a_plan_is_taken_where_it_covers_the_model() -> None:
    checked, sizes = profile.parse(MINE, "mine"), sizes_of(2)
    plan = {f"model.layers.{block}.{part}.weight": share for block, part, share in
            [(0, "a", 0.4), (0, "mlp.up_proj", 0.6), (1, "a", 0.5), (1, "mlp.up_proj", 0.9)]}  # fmt: skip
    planned = shares(checked, 0, sizes, plan)
    assert planned.values == {0: 0.55, 1: 0.8}  # by size: 10 and 30
    assert planned.origin == "the plan of the open run"
    partly = {name: share for name, share in plan.items() if ".0." in name}
    assert shares(checked, 0, sizes, partly).values == {0: 0.6, 1: 0.6}  # a plan of another model


@given(st.lists(st.tuples(st.floats(0.2, 0.9), st.none() | st.floats(0, 0.99)), min_size=2, max_size=12))
def test_the_mean_is_that_of_all_matrices_and_the_engine_refuses_the_same_strips(
    drawn: list[tuple[float, float | None]],
) -> None:
    sizes = sizes_of(len(drawn))
    own = {str(block): round(share, 3) for block, (share, _) in enumerate(drawn)}
    own |= {f"model.layers.{b}.a.weight": round(x, 3) for b, (_, x) in enumerate(drawn) if x is not None}
    pairs = ", ".join(f'"{name}" = {share}' for name, share in own.items())
    checked = profile.parse(MINE, "mine", [f"step.0.shares={{{pairs}}}"])
    edited = shares(checked, 0, sizes, {})
    each = [(own.get(f"model.layers.{name}.weight", own[str(block)]), size)
            for block, found in sizes.items() for name, size in found.items()]  # fmt: skip
    assert edited.mean == pytest.approx(sum(share * size for share, size in each) / sum(size for _, size in each))
    for _ in range(2):  # as given, then balanced
        assert edited.refused == engine_refuses(edited, sizes)
        edited.balance()


def engine_refuses(edited: Shares, sizes: Sizes) -> bool:
    _, own = drafts.value(edited.keep())
    options = PruneOptions.model_validate({"use": "prune", "sparsity": edited.target, "shares": own})
    matrices = [Matrix(f"model.layers.{name}.weight", block, torch.zeros(1, size), 0)
                for block, found in sizes.items() for name, size in found.items()]  # fmt: skip
    try:
        check_shares(matrices, options)
    except UsageError:
        return True
    return False


def test_balancing_makes_up_for_matrices_by_name() -> None:
    checked = profile.parse(MINE, "mine")
    edited = shares(checked, 2, sizes_of(4), {})  # one of 30 parameters at 0.4, block 2 at 0.5
    assert edited.sizes == {0: 10, 1: 40, 2: 40, 3: 40}
    assert edited.mean == pytest.approx((30 * 0.4 + 10 * 0.7 + 40 * (0.7 + 0.5 + 0.7)) / 160)
    assert edited.balance()
    assert edited.mean == pytest.approx(0.7, abs=EXACT)


def test_matrices_that_no_name_puts_in_a_block_count_where_the_run_has_them() -> None:
    checked = profile.parse(MINE, "mine", ['step.0.shares={"fc1.weight" = 0.2, "elsewhere.weight" = 0.9}'])
    edited = shares(checked, 0, {0: {"fc1": 10, "fc2": 30}}, {})
    assert (edited.sizes, edited.named) == ({0: 30}, {"fc1.weight": 10})
    assert edited.balance()
    assert edited.values[0] == pytest.approx((edited.target * 40 - 0.2 * 10) / 30, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "block", "left"),
    [
        ("model.layers.3.self_attn.q_proj.weight", 3, "3.self_attn.q_proj"),
        ("blk.12.ffn_gate.weight", 12, "12.mlp.gate_proj"),
        ("transformer.h.0.mlp.c_fc", 0, "0.mlp.c_fc"),
        ("model.embed_tokens.weight", None, "model.embed_tokens"),
    ],
)
def test_a_matrix_has_one_name_in_every_format(name: str, block: int | None, left: str) -> None:
    assert (block_of(name), short(name)) == (block, left)


def test_a_run_tells_sizes_until_a_step_has_changed_them() -> None:
    state = RunState.of(map(ev.from_json, (RECORDED / "finished.jsonl").read_text().splitlines()))
    assert sizes_of_run(state)[29]["29.mlp.down_proj"] == 576 * 1536
    assert state.model is not None
    state.model = replace(state.model, step=0)  # blocks have left: the rest are numbered anew
    assert sizes_of_run(state) == {}


def test_a_model_made_by_code_has_no_headers() -> None:
    with pytest.raises(Unavailable, match="made by code"):
        sizes_of_model("builtin:linear")
