"""The `adjust_prompt` step: its budget, where it begins, what it compares with; a stop in the middle changes nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import answering, at_work, options, toy

from engine import events as ev
from engine import outcome, report
from engine.data.rows import Row
from engine.errors import Cancelled, UsageError
from engine.prompts import adjust, pool
from engine.prompts.adjust import run
from engine.prompts.contest import Contest
from engine.prompts.kept import EXAMPLES, WINNER
from engine.prompts.options import AdjustPromptOptions
from engine.prompts.template import Prompt
from engine.registry import ADJUSTERS
from engine.state import RunState
from tui.widgets import candidates

QUICK = {"rows": 8, "budget": 160, "finalists": 3, "calibration": "batch"}


def winner(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "artifacts" / "adjusted-prompts" / WINNER).read_text())
    return found


def adjusted(folder: Path, options: AdjustPromptOptions) -> tuple[dict[str, Any], list[ev.Event]]:
    told: list[ev.Event] = []
    made = at_work(folder, options, told)
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

    made = at_work(folder, options)
    made.should_stop = stop
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


def surely(right: Callable[[Prompt, Row], bool]) -> Callable[[Prompt, Row], float]:
    """The margin of answers without a doubt, right where `right` says so."""
    return lambda prompt, row: 4.0 if right(prompt, row) else -4.0


LEAST = (
    2 * 20 + 7 * 8
)  # both beginnings on half of the 40 development rows, then a block for six finalists and the start


@pytest.mark.parametrize("objective", ["accuracy", "length"])
@pytest.mark.parametrize("budget", [1, 8, 19, 20, 21, 39, 40, 47, LEAST - 1])
def test_a_budget_below_what_the_beginnings_need_is_refused(objective: str, budget: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"a budget of {budget} examples") as refused:
        adjusted(tmp_path / "run", options(budget=budget, objective=objective))
    assert refused.value.where == "step.0.budget"
    assert f"at least {LEAST}," in str(refused.value.hint)


@pytest.mark.parametrize("objective", ["accuracy", "length"])
@pytest.mark.parametrize("final", [0.01, 0.4, 0.99])
def test_the_least_budget_ends_and_says_that_nothing_was_searched(final: float, objective: str, tmp_path: Path) -> None:
    summary, told = adjusted(tmp_path / "run", options(budget=LEAST, final=final, objective=objective))
    assert summary["winner"] in ("plain", "start")
    warnings = [e.message for e in told if isinstance(e, ev.Log) and e.level == "warning"]
    assert any("the search scored no new prompt: the first needs 60 examples" in line for line in warnings)


@pytest.mark.parametrize(("room", "entered"), [(0, 0), (1, 1), (2, 2), (5, 5)])
def test_the_affordable_beginning_of_an_ask_enters(room: int, entered: int, tmp_path: Path) -> None:
    """The first ask of grips is the start itself, the second five or six edits of it."""
    chosen = options(**{**QUICK, "final": 0.5, "finalists": 1, "budget": 2 * 8 * (2 + room)})
    summary, told = adjusted(tmp_path / "run", chosen)
    warned = any(isinstance(e, ev.Log) and "scored no new prompt" in e.message for e in told)
    assert summary["candidates"] == 2 + entered
    assert warned == (entered == 0)


def test_minutes_that_end_inside_a_prompt_leave_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proposed takes longer a row than what the search began with; half of its rows are no figure beside whole ones."""
    chosen = options(**QUICK | {"budget": "1 minute"}, instruction="Say yes.")
    contest = Contest.open(at_work(tmp_path / "run", chosen), chosen)
    race, first = contest.race, contest.enter(pool.plain(contest.task))
    adjust.meet(contest, [first], 8, 0)
    asked = [replace(race.prompts[first], instruction=text) for text in ("One.", "Two.")]
    monkeypatch.setattr(
        race, "_affordable", lambda index, rows: race.rows[race.met(index) : 4 if index > first else rows]
    )
    assert adjust.afforded(contest, asked, 8, 1.0, 1) == []
    assert [prompt.instruction for prompt in race.prompts] == ["", "One."]


@pytest.mark.parametrize("most", [0.02, 1.0])
def test_what_few_rows_cannot_prove_is_told(most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts answer alike, on 20 rows behind the search: a shorter one may lose what could have been alike by chance."""
    answering(monkeypatch, surely(lambda prompt, row: len(row.text) % 3 > 0))
    chosen = options(**QUICK | {"rows": 20, "budget": 600, "max_loss": most}, method="shorten", demonstrations=3)
    summary, told = adjusted(tmp_path / "run", chosen)
    said = [e.message for e in told if isinstance(e, ev.Log) and "no shorter prompt is sure to lose" in e.message]
    assert (summary["tokens"] < summary["baseline_tokens"]) == (most == 1.0)
    assert bool(said) == (most == 0.02)


def test_an_adjuster_without_an_idea_is_told(tmp_path: Path) -> None:
    chosen = options(**QUICK, method="shorten").model_copy(update={"instruction": ""})
    _, told = adjusted(tmp_path / "run", chosen)
    assert any(isinstance(e, ev.Log) and "shorten proposed none" in e.message for e in told)


@pytest.mark.parametrize("objective", ["accuracy", "length"])
def test_who_was_lucky_on_the_rows_of_the_search_does_not_win(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is proposed is right on all rows of the search and on few others, the beginnings on most rows everywhere."""
    dev = [row.text for row in toy().dev]

    def right(prompt: Prompt, row: Row) -> bool:
        at = dev.index(row.text) if row.text in dev else 0
        return at % 4 > 0 if prompt.name in ("plain", "start") else at < 20

    answering(monkeypatch, surely(right))
    chosen = options(**{**QUICK, "rows": 20, "budget": 600, "calibration": "none"}, objective=objective)
    summary, told = adjusted(tmp_path / "run", chosen)
    assert summary["winner"] in ("plain", "start")
    assert summary["candidates"] > 4
    last = {e.candidate: e.accuracy for e in told if isinstance(e, ev.CandidateScored) and e.split == "dev"}
    assert {last[name] for name in last if name.startswith("a")} == {0.0, 1.0}, "some met more rows than the search's"


def table(folder: Path, monkeypatch: pytest.MonkeyPatch, best: str) -> tuple[RunState, dict[str, dict[str, Any]]]:
    """The run's state after the step, and its uncalibrated test rows by their prompt, when `best` is right the most often."""
    answering(monkeypatch, surely(lambda prompt, row: prompt.name == best and sum(map(ord, row.text)) % 4 > 0))
    told: list[ev.Event] = []
    chosen = options(**QUICK)
    made = at_work(folder, chosen, told)
    made.stage = "pruned"
    summary = run(made, chosen)
    assert summary["winner"] == best
    made.state.apply(ev.StepStarted(step=0, use="adjust_prompt"))
    made.state.apply(ev.StepFinished(step=0, seconds=1.0, summary=summary))
    rows = [row for row in outcome.rows(made.state) if row["calibration"] == "none"]
    assert len({row["prompt"] for row in rows}) == len(rows) == len({best, "plain", "start"})
    return made.state, {row["prompt"]: row for row in rows}


def test_a_start_that_wins_has_one_row_and_is_not_compared_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, rows = table(tmp_path / "run", monkeypatch, "start")
    assert {(c.a, c.b) for c in state.comparisons} == {("start", "plain")}
    assert rows["start"]["stage"].endswith("+ best prompt = first")
    assert (rows["start"]["against"], rows["start"]["p_value"], rows["start"]["verdict"]) == (None, None, "tie")
    assert rows["plain"]["stage"].endswith("+ plain prompt")
    assert (rows["plain"]["against"], rows["plain"]["verdict"]) == ("start", "worse")
    text = report.markdown(state)
    assert "`start`: the first prompt, nothing better was found" in text
    assert "the plain prompt, nothing" not in text
    examples = (tmp_path / "run" / "artifacts" / "adjusted-prompts" / EXAMPLES).read_text().splitlines()
    assert list(json.loads(examples[0])["answers"]) == ["plain", "start"]
    assert (candidates.winner(state), candidates.baseline(state)) == ("start", "start")
    shown = candidates.rows(state)
    assert list(shown)[:1] == ["start"]
    assert (shown["start"]["verdict"], shown["plain"]["verdict"]) == ("baseline", "worse")


def test_the_plain_prompt_that_wins_is_tested_against_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, rows = table(tmp_path / "run", monkeypatch, "plain")
    assert {(c.a, c.b) for c in state.comparisons} == {("plain", "start")}
    assert rows["plain"]["stage"].endswith("+ best prompt = plain")
    assert (rows["plain"]["against"], rows["plain"]["verdict"]) == ("start", "better")
    assert rows["start"]["stage"].endswith("+ first prompt")
    assert (rows["start"]["against"], rows["start"]["verdict"]) == ("plain", "worse")
    assert (candidates.winner(state), candidates.baseline(state)) == ("plain", "start")
    assert list(candidates.rows(state))[:2] == ["plain", "start"]
    short, long = (state.candidates[name].tokens for name in ("plain", "start"))
    assert f"nothing better was found, {long - short} of {long} tokens saved:" in report.markdown(state)


def test_another_that_wins_has_the_rows_of_both_beginnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, rows = table(tmp_path / "run", monkeypatch, "a02")
    kinds = {name: row["stage"].partition(" + ")[2] for name, row in rows.items()}
    assert kinds == {"plain": "plain prompt", "start": "first prompt", "a02": "best prompt"}
    assert (rows["a02"]["against"], rows["a02"]["verdict"]) == ("start", "better")
    for compared in state.comparisons:
        assert compared.p_holm is not None
        assert compared.p_holm >= compared.p_value
