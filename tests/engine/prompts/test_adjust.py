"""The `adjust_prompt` step: its budget, where it begins, what it compares with; a stop in the middle changes nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.prompting import INSTRUCTION, options, toy
from fixtures.workspaces import workspace

from engine import events as ev
from engine.errors import Cancelled, UsageError
from engine.prompts import adjust
from engine.prompts.adjust import run
from engine.prompts.adjusters import grips
from engine.prompts.kept import WINNER
from engine.prompts.options import AdjustPromptOptions
from engine.registry import ADJUSTERS
from engine.workspace import Workspace

QUICK = {"rows": 8, "budget": 160, "finalists": 3, "calibration": "batch"}


def at_work(folder: Path, told: list[ev.Event] | None = None) -> Workspace:
    made = workspace(folder, subject("llama", seed=4), told=told)
    made._tasks["toy"] = toy()
    return made


def winner(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "artifacts" / "adjusted-prompts" / WINNER).read_text())
    return found


def adjusted(folder: Path, options: AdjustPromptOptions) -> tuple[dict[str, Any], list[ev.Event]]:
    told: list[ev.Event] = []
    made = at_work(folder, told)
    made.profile = made.profile.model_copy(update={"step": [options]})
    return run(made, options), told


def test_it_ends_within_its_budget_and_compares_with_both_beginnings(tmp_path: Path) -> None:
    summary, told = adjusted(tmp_path / "run", options(**QUICK))
    scored = [e for e in told if isinstance(e, ev.CandidateScored)]
    search = {e.candidate for e in scored if e.split == "dev"}
    assert {"plain", "start"} <= search
    assert len(search) > 6
    assert summary["scored"] <= 160 + 2 * 40  # what the baselines may catch up
    compared = {(e.a, e.b, e.calibration) for e in told if isinstance(e, ev.PromptsCompared)}
    for base in {"plain", "start"} - {summary["winner"]}:
        assert {(summary["winner"], base, kind) for kind in ("none", "batch")} <= compared
    assert winner(tmp_path / "run")["name"] == summary["winner"]
    assert summary["rows"] == 30


@pytest.mark.parametrize("method", ["shorten", "grips"])
def test_the_shortest_wins_where_length_is_the_aim(method: str, tmp_path: Path) -> None:
    chosen = options(
        **QUICK, method=method, demonstrations=3, **({} if method == "shorten" else {"objective": "length"})
    )
    summary, told = adjusted(tmp_path / "run", chosen)
    tokens = {e.candidate: e.tokens for e in told if isinstance(e, ev.CandidateAdded)}
    assert tokens[summary["winner"]] <= tokens["start"]
    assert adjust.goal(chosen) == "length"
    assert adjust.goal(options(method="shorten", objective="accuracy")) == adjust.goal(options()) == "accuracy"


def test_a_budget_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a budget of 3 examples"):
        adjusted(tmp_path / "run", options(**{**QUICK, "budget": 3}))


def stopped(folder: Path, options: AdjustPromptOptions, after: int) -> int:
    """Runs the step until it has asked so many times whether to stop; returns how often it did."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    made = at_work(folder)
    made.should_stop = stop
    made.profile = made.profile.model_copy(update={"step": [options]})
    with contextlib.suppress(Cancelled):
        run(made, options)
    return asked


@pytest.mark.parametrize("method", ADJUSTERS.names())
def test_stopped_anywhere_and_run_again_it_chooses_the_same(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(**QUICK, method=method, demonstrations=2)
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache of whole"))
    checks = stopped(tmp_path / "counted", chosen, 10_000)
    whole, _ = adjusted(tmp_path / "whole", chosen)
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache of broken"))
    for share in (0.2, 0.4):
        assert stopped(tmp_path / "broken", chosen, round(share * checks)) < checks
    again, _ = adjusted(tmp_path / "broken", chosen)
    assert again == whole
    assert winner(tmp_path / "broken") == winner(tmp_path / "whole")


def test_phrases_cut_at_marks_and_after_four_words() -> None:
    found = grips.phrases("Read it, then say whether the writer liked the film. Answer yes or no.")
    assert found == ["Read it,", " then say whether the", " writer liked the film.", " Answer yes or no."]
    assert "".join(grips.phrases(INSTRUCTION)) == INSTRUCTION
    assert grips.phrases("") == []
