"""The `select_prompt` step on a tiny model: what of the pool comes in, and what is said of the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import at_work, toy

from engine import events as ev
from engine import foreseen, preflight
from engine.errors import Cancelled, UsageError
from engine.prompts.options import SelectPromptOptions
from engine.prompts.select import run
from engine.registry import OPTIMIZERS
from engine.workspace import Workspace


def options(**changes: Any) -> SelectPromptOptions:
    return SelectPromptOptions.model_validate(
        {"use": "select_prompt", "task": "toy", "budget": 80, "test_rows": 10, **changes}
    )


def working(folder: Path, step: SelectPromptOptions, told: list[ev.Event]) -> Workspace:
    return at_work(folder, step, told)


def logged(told: list[ev.Event]) -> str:
    return "\n".join(event.message for event in told if isinstance(event, ev.Log))


def added(told: list[ev.Event]) -> dict[str, ev.CandidateAdded]:
    return {event.candidate: event for event in told if isinstance(event, ev.CandidateAdded)}


def test_repetitions_are_left_out_and_counted(tmp_path: Path) -> None:
    step, told = options(candidates=["Yes or no?", "Yes  or no?", "True?"]), list[ev.Event]()
    summary = run(working(tmp_path / "run", step, told), step)
    assert summary["candidates"] == len(added(told)) == 3
    assert "1 of the pool's 4 prompts repeat others" in logged(told)
    told.clear()
    step = options(candidates=["Yes or no?", "True?"])
    run(working(tmp_path / "other", step, told), step)
    assert "repeat" not in logged(told)


@pytest.mark.parametrize("changes", [{}, {"candidates": ["", " "]}, {"templates": [toy().template]}])
def test_a_pool_of_the_plain_prompt_alone_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    step, told = options(**changes), list[ev.Event]()
    made = working(tmp_path / "run", step, told)
    with pytest.raises(UsageError, match="plain prompt alone") as refused:
        preflight.check_prompts(foreseen.steps(made, []))
    assert refused.value.where == "step.0.candidates"
    preflight.check_prompts(foreseen.steps(working(tmp_path / "written", options(**changes, rewrites=1), told), []))


def test_an_instruction_that_has_a_field_is_warned_of(tmp_path: Path) -> None:
    told = list[ev.Event]()
    step = options(candidates=["Is {text} true?", "Answer as {json}."])
    preflight.check_prompts(foreseen.steps(working(tmp_path / "run", step, told), []))
    (warned,) = [event for event in told if isinstance(event, ev.Log) and event.level == "warning"]
    assert "{text} is not filled in in the instruction 'Is {text} true?'" in warned.message


def stopped(made: Workspace, step: SelectPromptOptions, after: int) -> int:
    """Runs the step until it has asked so many times whether to stop; returns how often it did."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    made.should_stop = stop
    with contextlib.suppress(Cancelled):
        run(made, step)
    return asked


@pytest.mark.parametrize("budget", [240, "12k tokens"])
@pytest.mark.parametrize("method", OPTIMIZERS.names())
def test_cancelled_in_the_middle_of_a_race_and_run_again_it_chooses_the_same(
    method: str, budget: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = options(
        method=method, budget=budget, candidates=["Yes or no?", "True?", "Really so?"], rewrites=2, induction=2,
        demonstrations=[0, 2], demonstration_orders=2, calibration="batch",
    )  # fmt: skip
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache of whole"))
    checks = stopped(working(tmp_path / "counted", step, []), step, 10_000)
    whole = list[ev.Event]()
    summary = run(working(tmp_path / "whole", step, whole), step)
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache of broken"))
    for share in (0.2, 0.5, 0.8):
        assert stopped(working(tmp_path / "broken", step, []), step, round(share * checks)) < checks
    again = list[ev.Event]()
    assert run(working(tmp_path / "broken", step, again), step) == summary
    kinds = (ev.CandidateAdded, ev.PromptsCompared)
    assert [e for e in again if isinstance(e, kinds)] == [e for e in whole if isinstance(e, kinds)]
