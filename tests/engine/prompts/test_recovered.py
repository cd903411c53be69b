"""What a prompt step's choice wins back of the accuracy that the model lost: planted right and wrong answers of two models."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import embedding
from fixtures.models import subject
from fixtures.prompting import at_work, options, toy
from numpy.typing import NDArray

from engine import events as ev
from engine import figures, grids, report, statistics
from engine.data.rows import Row
from engine.prompts import adjust, embed, select
from engine.prompts.options import PromptStepOptions, SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.state import RunState
from engine.statistics import regained
from tui.commands.run import grid_tables
from tui.narration import Narrator
from tui.widgets import candidates

BIAS = 6.0  # of the pruned model for the second label, which a calibration takes away
COMMON = {"calibration": "batch", "control": True}
STEPS: dict[str, tuple[Any, PromptStepOptions]] = {
    "select": (
        select.run,
        SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes or no?"], budget=400, **COMMON),
    ),
    "adjust": (adjust.run, options(rows=8, budget=300, finalists=3, **COMMON)),
    "embed": (embed.run, embedding.options(**COMMON)),
}
DENSE, PRUNED, BETTER = 0.9, 0.5, 0.8
"""the share of right answers of the plain prompt on both models, and of any other on the pruned one"""


def right(row: Row, share: float, who: str) -> bool:
    return zlib.crc32(f"{who} {row.text}".encode()) % 1000 < 1000 * share


def plant(monkeypatch: pytest.MonkeyPatch, dense: Any, dense_share: float) -> None:
    """Answers by the model and by whether the prompt is the plain one; the pruned model's lean to the second label."""

    def score(scorer: Scorer, prompt: Prompt, rows: Sequence[Row], width: int | None = None) -> torch.Tensor:
        plain = not prompt.instruction and prompt.soft is None
        who, share, lean = ("dense", dense_share, 0.0) if scorer.subject is dense else ("pruned", PRUNED, BIAS)
        share, who = (share, who) if plain else (BETTER, f"other {who}")
        margins = [(1.0 if right(row, share, who) else -1.0) * (2 * row.gold - 1) + lean for row in rows]
        return torch.tensor([[0.0, margin] for margin in margins], dtype=torch.float64)

    monkeypatch.setattr(Scorer, "score", score)
    monkeypatch.setattr(embed.Tuning, "run", lambda *_: [embedding.planted("soft").weight_NW])


def run(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    dense_share: float = DENSE,
    metric: str = "accuracy",
    **changes: Any,
) -> tuple[RunState, dict[str, Any], list[Row]]:
    """The step on a pruned model with its planted dense one."""
    step, chosen = STEPS[name]
    chosen = chosen.model_copy(update=changes)
    told: list[ev.Event] = []
    task = replace(toy(dev=100, test=300), metric=metric)
    made, dense = at_work(folder, chosen, told, task), subject("llama", seed=1)
    plant(monkeypatch, dense, dense_share)
    made.dense_subject = lambda: dense
    made.stage, made.step = "pruned", 0
    summary = step(made, chosen)
    before, after = (
        ev.StepStarted(step=0, use=chosen.use, title=""),
        ev.StepFinished(step=0, seconds=1.0, summary=summary),
    )
    return RunState.of([before, *told, after]), summary, task.test


def rights(rows: list[Row], share: float, who: str) -> NDArray[np.bool_]:
    return np.array([right(row, share, who) for row in rows])


@pytest.mark.parametrize("name", STEPS)
def test_the_share_is_told_with_its_interval(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, summary, rows = run(name, tmp_path, monkeypatch)
    better, base, top = (
        rights(rows, share, who) for share, who in ((BETTER, "other pruned"), (PRUNED, "pruned"), (DENSE, "dense"))
    )
    expected = regained(better, base, top, 0)
    (told,) = state.recovered.values()
    assert (told.stage, told.level, told.prompt, told.n) == ("pruned", "", summary["winner"], 300)
    assert summary["winner"] != "plain"
    assert (told.value, told.low, told.high) == (expected.value, expected.low, expected.high)
    assert told.value is not None
    assert 0.4 < told.value < 1.1
    assert (told.gap, told.gap_low) == (expected.gap.difference, expected.gap.low)
    control = statistics.compare(rights(rows, BETTER, "other dense"), top, 0)
    assert (told.control, told.control_low, told.control_high) == (control.difference, control.low, control.high)
    shown = figures.ratio(told.value, told.low, told.high)
    assert summary["recovered"] == shown
    assert f"recovered {shown}" in report.markdown(state)
    assert "## Recovered by chosen prompts" in report.markdown(state)
    assert any(shown in line and "pruned" in line for line in grid_tables(state))
    assert Narrator("")(told)[0].strip().startswith(f"pruned with {told.prompt}: recovered {shown} of -")
    assert f"recovered {shown}" in candidates.detail(state, told.prompt).plain
    assert grids.steps(state) == []


def test_of_a_loss_inside_the_noise_it_is_undefined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, summary, _ = run("select", tmp_path, monkeypatch, dense_share=PRUNED)
    (told,) = state.recovered.values()
    assert (told.value, told.low, told.high, summary["recovered"]) == (None, None, None, "undefined")
    assert "| undefined |" in report.markdown(state)


@pytest.mark.parametrize(("metric", "control"), [("accuracy", False), ("macro_f1", True)])
def test_it_needs_the_control_and_rows_that_are_right_or_wrong(
    metric: str, control: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, summary, _ = run("select", tmp_path, monkeypatch, metric=metric, control=control)
    assert not state.recovered
    assert "recovered" not in summary
