"""The `select_prompt` step on a tiny model: what of the pool comes in, and what is said of the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import answering, at_work, toy

from engine import events as ev
from engine import foreseen, preflight
from engine.data.rows import Row
from engine.errors import Cancelled, UsageError
from engine.prompts.options import SelectPromptOptions
from engine.prompts.select import run
from engine.prompts.template import Prompt
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


@pytest.mark.parametrize(("lost", "won", "winner"), [(4, 5, "plain"), (1, 9, "c01")])
@pytest.mark.parametrize("method", OPTIMIZERS.names())
def test_a_winner_that_is_hardly_ahead_of_the_plain_prompt_is_not_chosen(
    method: str, lost: int, won: int, winner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 rows the plain prompt has 24 right; the other one leads by 1/40 or 8/40, with a standard error of 3/40."""
    dev = [row.text for row in toy().dev]
    assert len(dev) == 40

    def margin(prompt: Prompt, row: Row) -> float:
        at = dev.index(row.text) if row.text in dev else 0
        right = lost <= at < 24 + won if prompt.instruction else at < 24
        return 4.0 if right else -4.0

    answering(monkeypatch, margin)
    step, told = options(method=method, candidates=["True?"], calibration="none"), list[ev.Event]()
    made = working(tmp_path / "run", step, told)
    assert run(made, step)["winner"] == winner
    met = {e.candidate: e.n for e in told if isinstance(e, ev.CandidateScored) and e.split == "dev"}
    assert met == {"plain": 40, "c01": 40}
