"""Verdicts that hold on fresh rows too: the winner against the other finalists, on test rows and on the task's confirm rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.prompting import answering, at_work, toy
from fixtures.races import Planted

from engine import events as ev
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import answers, needs
from engine.prompts.finals import Finals
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

TASK = replace(
    toy(test=60), confirm=[Row(f"fresh {i}", {"text": f"fresh {i}"}, (" no", " yes"), i % 2) for i in range(60)]
)
Right = Callable[[str, Row], bool]


def compared(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    right: Right,
    task: Task = TASK,
    calibration: str = "none",
    compute: torch.dtype | None = None,
) -> tuple[list[ev.Event], list[tuple[str, str]]]:
    """What is told of the finalists "0", "1" and the winner "2", where a prompt is right on a row as `right` says, and who
    was asked about confirm rows. Calibration makes "0" and "1" give one answer always.
    """
    asked = list[tuple[str, str]]()

    def margin(prompt: Prompt, row: Row) -> float:
        asked.extend([(prompt.name, row.text)] if row.text.startswith("fresh") else [])
        return 2.0 if right(prompt.name, row) else -2.0

    heard: list[ev.Event] = []
    step = SelectPromptOptions.model_validate({"use": "select_prompt", "task": "toy", "calibration": calibration})
    made = at_work(folder, step, heard, task)
    answering(monkeypatch, margin)
    race = Planted([0.5] * 3).race(600)
    shift = {"none": [0.0, 0.0], "batch": [0.0, 5.0]}
    monkeypatch.setattr(race, "offsets", lambda index, kind: torch.tensor(shift["none" if index == 2 else kind]))
    race.metric = task.metric
    Finals(made, step, task, race, [0, 1, 2]).compare(Scorer(made.subject, compute=compute), "pruned")
    return heard, asked


def verdicts(heard: list[ev.Event]) -> list[tuple[str, str, int, str]]:
    return [(e.b, e.split, e.n, e.verdict) for e in heard if isinstance(e, ev.PromptsCompared)]


def first(rows: list[Row], share: float) -> set[str]:
    return {row.text for row in rows[: int(share * len(rows))]}


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [(0.9, "better"), (0.52, "tie"), (0.1, "tie")],
    ids=["as on test rows", "hardly", "the other way round"],
)
def test_a_verdict_that_the_confirm_rows_do_not_repeat_is_a_tie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: float, verdict: str
) -> None:
    """The winner is right on 54 test rows and the others on 30 of them, these on half of the confirm rows too."""
    half = first(TASK.test, 0.5) | first(TASK.confirm, 0.5)
    won = first(TASK.test, 0.9) | first(TASK.confirm, fresh)
    heard, _ = compared(tmp_path, monkeypatch, lambda name, row: row.text in (won if name == "2" else half))
    again = {0.9: "better", 0.52: "tie", 0.1: "worse"}[fresh]
    told = [
        ("0", "confirm", 60, again),
        ("1", "confirm", 60, again),
        ("0", "test", 60, verdict),
        ("1", "test", 60, verdict),
    ]
    assert verdicts(heard) == told
    logs = [event.message for event in heard if isinstance(event, ev.Log)]
    assert len(logs) == (0 if verdict == "better" else 2)
    if logs:
        assert logs[0].startswith(
            "2 is better than 0 (pruned, none) on test rows, which 60 confirm rows do not repeat ("
        )
    assert {e.split for e in heard if isinstance(e, ev.CandidateScored)} == {"test"}
    told_of = [e for e in heard if isinstance(e, ev.PromptsCompared)]
    assert {e.stage for e in told_of} == {"pruned"}
    both = {e.b: e for e in told_of if e.split == "test"}
    assert both["0"].p_holm == pytest.approx(2 * both["0"].p_value), "the test rows' own"


def test_only_what_is_to_be_tried_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompt "1" answers the test rows as the winner does."""
    half, whole = first(TASK.test, 0.5), first(TASK.test, 0.9) | first(TASK.confirm, 0.9)
    heard, asked = compared(tmp_path, monkeypatch, lambda name, row: row.text in (half if name == "0" else whole))
    assert {name for name, _ in asked} == {"0", "2"}
    assert len(asked) == len(set(asked)) == 2 * 60, "each row once"
    assert verdicts(heard) == [("0", "confirm", 60, "better"), ("0", "test", 60, "better"), ("1", "test", 60, "tie")]
    heard, asked = compared(tmp_path / "ties", monkeypatch, lambda name, row: row.text in whole)
    assert (asked, verdicts(heard)) == ([], [("0", "test", 60, "tie"), ("1", "test", 60, "tie")])


def test_without_confirm_rows_the_test_rows_say_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, most = first(TASK.test, 0.5), first(TASK.test, 0.9)
    task = replace(TASK, confirm=[])
    heard, _ = compared(tmp_path, monkeypatch, lambda name, row: row.text in (most if name == "2" else half), task)
    assert verdicts(heard) == [("0", "test", 60, "better"), ("1", "test", 60, "better")]


def test_confirm_rows_are_calibrated_as_test_rows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = first(TASK.test, 0.9) | first(TASK.confirm, 0.9)
    heard, asked = compared(tmp_path, monkeypatch, lambda _, row: row.text in most, calibration="batch")
    told = {
        e.calibration: (e.difference, e.verdict)
        for e in heard
        if isinstance(e, ev.PromptsCompared) and e.split == "confirm"
    }
    assert told == {"batch": (pytest.approx(0.4, abs=0.06), "better")}
    assert [verdict for *_, verdict in verdicts(heard)] == ["tie", "tie", "better", "better", "better", "better"]
    assert len(asked) == len(set(asked)) == 3 * 60


def test_two_that_are_tried_together_are_adjusted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six confirm rows of difference: p = 1/32 alone, 2/32 by Holm among two."""
    half, most = first(TASK.test, 0.5), first(TASK.test, 0.9)
    six, none = first(TASK.confirm, 0.1), set[str]()
    heard, _ = compared(
        tmp_path, monkeypatch, lambda name, row: row.text in (most | six if name == "2" else half | none)
    )
    told = [
        (e.p_value, e.p_holm, e.verdict) for e in heard if isinstance(e, ev.PromptsCompared) and e.split == "confirm"
    ]
    assert told == [(pytest.approx(1 / 32), pytest.approx(2 / 32), "tie")] * 2


def test_where_less_is_better_a_confirmed_verdict_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, most = first(TASK.test, 0.5) | first(TASK.confirm, 0.5), first(TASK.test, 0.9) | first(TASK.confirm, 0.9)
    task = replace(TASK, metric="nll")
    heard, _ = compared(tmp_path, monkeypatch, lambda name, row: row.text in (most if name == "2" else half), task)
    assert verdicts(heard) == [(b, split, 60, "better") for split in ("confirm", "test") for b in ("0", "1")]


def test_a_worse_winner_is_confirmed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, most = first(TASK.test, 0.5), first(TASK.test, 0.9) | first(TASK.confirm, 0.9)
    for fresh, verdict in ((0.0, "worse"), (0.9, "tie")):
        right = {"2": half | first(TASK.confirm, fresh)}
        heard, _ = compared(
            tmp_path / verdict, monkeypatch, lambda name, row, own=right: row.text in own.get(name, most)
        )
        assert {event[3] for event in verdicts(heard) if event[1] == "test"} == {verdict}


def test_confirm_rows_are_asked_in_the_weights_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set[torch.dtype | None]()
    score = answers.asked
    monkeypatch.setattr(answers, "asked", lambda scorer, *given: asked.add(scorer.compute) or score(scorer, *given))
    half, most = first(TASK.test, 0.5), first(TASK.test, 0.9) | first(TASK.confirm, 0.9)
    compared(
        tmp_path, monkeypatch, lambda name, row: row.text in (most if name == "2" else half), compute=torch.bfloat16
    )
    assert asked == {None}


def test_a_class_that_the_confirm_rows_lack_is_refused_and_their_choices_count(tmp_path: Path) -> None:
    lacking = replace(TASK, confirm=[row for row in TASK.confirm if row.gold])
    with pytest.raises(UsageError, match="no row of '0' among the 30 confirm rows"):
        needs.check_task(lacking, SelectPromptOptions(use="select_prompt", task="toy"))
    wide = replace(TASK, labels={}, confirm=[replace(TASK.confirm[0], choices=(" a", " b", " c"))])
    assert wide.most_choices == 3
