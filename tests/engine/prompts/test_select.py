"""The `select_prompt` step on a tiny model: what of the pool comes in, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.prompting import at_work

from engine import events as ev
from engine.prompts.options import SelectPromptOptions
from engine.prompts.select import run
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
