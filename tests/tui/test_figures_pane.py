"""The rows of the figures table: what the headless output shows too, and changes in each figure's own unit."""

from __future__ import annotations

import pytest

from engine import events as ev
from engine import figures
from engine.state import RunState
from tui.widgets.layers import figure_rows, outcome_line


def measured(name: str, dense: float, pruned: float) -> RunState:
    return RunState.of(
        ev.Metric(step=at, stage=stage, name=name, value=value, n=200, seq=at + 2, time=1.0)
        for at, (stage, value) in enumerate([("dense", dense), ("pruned", pruned)], start=-1)
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("divergence", 0.0031, "0.0031"),
        ("agreement", 0.9843, "98.4%"),
        ("first_token_seconds", 0.085, "85 ms"),
        ("load_seconds", 2.5, "2.5 s"),
        ("peak_memory_bytes", 538e6, "538 MB"),
        ("sparsity", 0.5, "50.0%"),
        ("parameters", 134.5e6, "134.5M"),
        ("exact_match:antonyms", 0.37, "37.0%"),
        ("nll:mine", 0.6, "0.600"),
        ("bleu:captions", 0.42, "42.0"),
    ],
)
def test_a_figure_is_shown_as_everywhere(name: str, value: float, shown: str) -> None:
    row = figure_rows(measured(name, value, value))[f"{name} pruned"]
    assert str(row["value"]) == shown == figures.metric(name, value)


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("accuracy:sst2", "+8.8 pt", "sst2 acc 51.2% → 60.0%"),
        ("chrf:captions", "+8.8 pt", "captions chrf 51.2 → 60.0"),
        ("nll:mine", "+0.088", "mine nll 0.512 → 0.600"),
        ("perplexity", "×1.17", "perplexity 0.51 → 0.60"),
    ],
)
def test_a_change_has_the_unit_of_its_figure(name: str, change: str, line: str) -> None:
    state = measured(name, 0.512, 0.6)
    assert str(figure_rows(state)[f"{name} pruned"]["change"]) == change
    assert outcome_line(state).plain.strip() == line
