"""What a run did to each block: weighted means, and blocks counted as in the dense model after some have left it."""

from __future__ import annotations

import pytest
from recorded import RECORDED

from engine import events as ev
from engine.state import LayerState, RunState
from tui.blocks import blocks, gone, members, newest, removed, whole_model


def recorded(name: str) -> RunState:
    return RunState.of(ev.from_json(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines())


def matrix(name: str, block: int, parameters: int) -> dict[str, object]:
    return {"name": name, "block": block, "shape": [1, parameters], "parameters": parameters}


def test_shares_are_weighted_by_parameters() -> None:
    layers = [LayerState("a", 0, [1, 3], 3, 0.4, 0.1), LayerState("b", 0, [1, 1], 1, 0.8, 0.3),
              LayerState("c", 1, [1, 5], 5, 0.1), LayerState("d", 2, [1, 7], 7)]  # fmt: skip
    found = blocks(RunState(layers={layer.name: layer for layer in layers}))
    assert [found[n].sparsity for n in found] == [pytest.approx(0.5), pytest.approx(0.1), None]
    assert [found[n].error for n in found] == [pytest.approx(0.2), None, None]  # errors are not weighted


def test_a_recorded_plan_by_block() -> None:
    found = blocks(recorded("allocated"))
    assert list(found) == list(range(30))
    assert found[5].planned == found[5].sparsity == pytest.approx(0.55)
    assert found[17].after == pytest.approx(0.06636)
    assert found[18].after is None
    assert newest(recorded("allocated")) == 17


def test_blocks_are_counted_as_in_the_dense_model() -> None:
    state = recorded("structured")
    found = blocks(state)
    assert gone(state) == [21, 24]
    assert [number for number, block in found.items() if block.gone] == [21, 24]
    afters = [event.after for event in state.recoveries]
    assert [found[n].after for n in found if n not in (21, 24)] == afters
    assert found[21].after is None
    assert whole_model(state) == ["28 of 30 blocks, without 21, 24"]


def test_blocks_that_leave_twice_are_both_counted_in_the_dense_model() -> None:
    def leave(step: int, of: int, *out: int) -> ev.PartsRemoved:
        return ev.PartsRemoved(
            step=step, part="blocks", block=None, removed=list(out), of=of, error=None, seconds=1.0, done=1, total=1
        )

    state = RunState()
    for seq, event in enumerate([leave(0, 6, 0, 3), leave(1, 4, 1)], start=1):
        object.__setattr__(event, "seq", seq)
        state.apply(event)
    assert gone(state) == [0, 2, 3]  # of 1 2 4 5, the second is 2


def test_matrices_of_a_smaller_model_belong_to_the_blocks_they_were_in() -> None:
    loaded = {"source": "s", "device": "cpu", "dtype": "float32", "architecture": "A", "parameters": 8, "bytes": 8}
    whole = ev.ModelLoaded(**loaded, threads=1, matrices=[matrix(f"{b}.w", b, 4) for b in range(4)], seq=1)
    leave = ev.PartsRemoved(
        step=0, part="blocks", block=None, removed=[1], of=4, error=None, seconds=1.0, done=1, total=1, seq=2
    )
    rest = ev.ModelLoaded(**loaded, threads=1, matrices=[matrix(f"{b}.w", b, 4) for b in range(3)], step=0, seq=3)
    state = RunState.of([whole, leave])
    assert {n: [layer.name for layer in found] for n, found in members(state).items()} == {
        n: [f"{n}.w"] for n in range(4)
    }
    state.apply(rest)
    assert {n: [layer.name for layer in found] for n, found in members(state).items()} == {
        0: ["0.w"],
        2: ["1.w"],
        3: ["2.w"],
    }


def test_a_later_step_takes_the_place_of_an_earlier_one() -> None:
    state = RunState()
    for seq, (step, out) in enumerate([(0, [1]), (1, [1, 2])], start=1):
        state.apply(ev.PartsRemoved(step=step, part="channels", block=0, removed=out, of=4, error=0.1 * seq,
                                    seconds=1.0, done=1, total=1, seq=seq))  # fmt: skip
    block = blocks(state)[0]
    assert block.kept == 0.5
    assert block.error == pytest.approx(0.2)
    assert block.seconds == 2.0
    assert removed(block.parts["channels"]) == "2 of 4 channels"
