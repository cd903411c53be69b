"""The gate of a walk, on planted cells: development rows decide, and what is inside the noise decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine import events as ev
from engine import gates, report, statistics
from engine.events.joint import PLAIN, TEXT
from engine.joint import gate
from engine.joint.grid import Cell, GridRow
from engine.joint.levels import Level
from engine.joint.options import JointGate
from engine.state import RunState
from tui.narration import Narrator

ROWS = 400
HALF = JointGate(recovered=0.5)


def cell(dev: int, test: int = 0) -> Cell:
    """The first so many of the rows are right."""
    return Cell("x", [int(i < dev) for i in range(ROWS)], [int(i < test) for i in range(ROWS)], 0.0)


def row(plain: Cell, best: Cell | None = None) -> GridRow:
    return GridRow({PLAIN: plain, TEXT: best or plain}, TEXT)


def only(asked: JointGate, level: GridRow, dense: GridRow) -> ev.GateChecked:
    (found,) = gate.checks(asked, level, dense, 0)
    return found


def test_a_row_that_is_lost_by_chance_ends_no_walk() -> None:
    found = only(HALF, row(cell(319), cell(318)), row(cell(320)))
    assert (found.passed, found.instead, found.value) == (True, "accuracy_drop", pytest.approx(2 / ROWS))
    assert found.low is not None
    assert found.low <= 0 <= found.value


def test_a_prompt_that_breaks_what_pruning_did_not_misses_the_gate() -> None:
    found = only(HALF, row(cell(321), cell(100)), row(cell(320)))
    assert (found.passed, found.instead, found.value) == (False, "accuracy_drop", pytest.approx(0.55))


@pytest.mark.parametrize(("best", "passed"), [(239, False), (240, True)])
def test_of_a_loss_that_is_known_the_share_decides(best: int, passed: bool) -> None:
    level, dense = row(cell(160), cell(best)), row(cell(320))
    found = only(HALF, level, dense)
    share = statistics.regained(cell(best).dev_right, cell(160).dev_right, cell(320).dev_right, 0)
    assert (found.passed, found.instead, found.least) == (passed, "", True)
    assert (found.value, found.low, found.high) == (share.value, share.low, share.high)
    assert found.n == ROWS


def test_development_rows_decide_and_test_rows_are_told() -> None:
    """Each split alone would decide otherwise."""
    dense = row(cell(320, 320))
    good_on_dev = row(cell(160, 160), cell(300, 170))
    good_on_test = row(cell(160, 160), cell(170, 300))
    for level, passed, value, test in ((good_on_dev, True, 0.875, 0.0625), (good_on_test, False, 0.0625, 0.875)):
        found = only(HALF, level, dense)
        assert (found.passed, found.value, found.test) == (passed, pytest.approx(value), pytest.approx(test))
        found = only(JointGate(accuracy_drop=0.1), level, dense)
        dropped = [0.8 - share for share in (0.75, 0.425)][:: 1 if passed else -1]
        assert (found.passed, found.value, found.test) == (passed, *map(pytest.approx, dropped))
    broken_on_dev, broken_on_test = row(cell(320, 320), cell(100, 320)), row(cell(320, 320), cell(320, 100))
    assert [only(HALF, level, dense).passed for level in (broken_on_dev, broken_on_test)] == [False, True]


def test_a_cell_keeps_its_splits_apart() -> None:
    one = cell(3, 5)
    assert [int(np.count_nonzero(right)) for right in (one.dev_right, one.right)] == [3, 5]


def test_without_a_gate_nothing_is_checked() -> None:
    assert gate.checks(JointGate(), row(cell(0)), row(cell(320)), 0) == []


def told(tmp_path: Path, *levels: GridRow, **bounds: Any) -> tuple[RunState, list[bool]]:
    """The state after the levels 30%, 40% ... were told of."""
    events: list[ev.Event] = []
    made = workspace(tmp_path / "run", subject("llama"), told=events)
    made.step = 1
    dense = row(cell(320, 320))
    places = [Level(0.3 + 0.1 * i) for i in range(len(levels))]
    met = [gate.tell(made, JointGate(**bounds), at, level, dense) for at, level in zip(places, levels, strict=True)]
    return RunState.of(events), met


def test_a_walk_is_unmet_when_no_level_meets_the_whole_gate(tmp_path: Path) -> None:
    good, bad = row(cell(160, 160), cell(300, 290)), row(cell(160, 160), cell(170, 180))
    state, met = told(tmp_path, good, bad, recovered=0.5, accuracy_drop=0.1)
    assert (met, gates.unmet(state)) == ([True, False], [])
    state, met = told(tmp_path, bad, recovered=0.05, accuracy_drop=0.1)
    assert ([g.passed for g in state.gates], met, gates.unmet(state)) == ([True, False], [False], [1])
    assert any("the walk ends at 30%: accuracy_drop at 30% is 0.375" in line.message for line in state.log)


def test_it_is_shown_with_both_figures(tmp_path: Path) -> None:
    good, broken = row(cell(160, 160), cell(240, 290)), row(cell(321, 320), cell(100, 110))
    state, _ = told(tmp_path, good, broken, recovered=0.5)
    lines = [line for event in state.gates for line in Narrator("")(event)]
    assert [line.strip() for line in lines] == [
        "gate recovered at 30%: 0.5 [0.423, 0.579], n 400, bound at least 0.5: ✓ passed "
        "(on the test rows 0.8125 [0.75, 0.871], n 400)",
        "gate recovered at 40%: undefined, accuracy drop 0.55 [0.502, 0.598], n 400, bound no significant drop: ✗ missed "
        "(on the test rows 0.525 [0.477, 0.573], n 400)",
    ]
    assert [gates.brief(g) for g in state.gates] == ["0.50 of at least 0.50", "drop 0.50 to 0.60"]
    text = report.markdown(state)
    assert "| gate | bound | value | test | result |" in text
    assert "| recovered at 40% | no significant drop | undefined, accuracy drop 0.55 [0.502, 0.598], n 400 |" in text


def test_a_share_that_is_undefined_on_the_test_rows_is_said_to_be(tmp_path: Path) -> None:
    state, _ = told(tmp_path, row(cell(160, 320), cell(300, 318)), recovered=0.5)
    assert [gates.test(g) for g in state.gates] == ["undefined, n 400"]
