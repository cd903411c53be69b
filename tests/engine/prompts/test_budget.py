"""Budgets in examples, tokens and minutes: how they are written, that they hold, and that minutes go on over a stop."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import answering, at_work
from fixtures.races import Planted
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine import foreseen, preflight
from engine import profile as profiles
from engine.data.rows import Row
from engine.errors import Cancelled, ProfileError, UsageError
from engine.prompts import adjust, clock, select
from engine.prompts.adjusters import grips
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.budget import Budget
from engine.prompts.clock import Clock
from engine.prompts.options import AdjustPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.template import Prompt
from engine.registry import OPTIMIZERS

NAMES = OPTIMIZERS.names()


def selecting(**changes: Any) -> SelectPromptOptions:
    asked = {"candidates": ["Yes or no?", "Is it true?", "Really?", "Say."], "test_rows": 10, "control": False}
    return SelectPromptOptions.model_validate({"use": "select_prompt", "task": "toy", **asked, **changes})


class Ticking:
    """A clock on which every look at the time takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def monotonic(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        (2000, 2000, "examples"), ("1 example", 1, "examples"), ("2k examples", 2000, "examples"),
        ("200k tokens", 200_000, "tokens"), ("1.5M tokens", 1_500_000, "tokens"), (" 300  tokens ", 300, "tokens"),
        ("10 minutes", 10, "minutes"), ("0.5 minutes", 0.5, "minutes"), ("1minute", 1, "minutes"),
    ],
)  # fmt: skip
def test_what_a_budget_may_read_as(written: int | str, amount: float, unit: str) -> None:
    found = Budget.of(written)
    assert (found.amount, found.unit) == (amount, unit)
    assert Budget.of(str(found)) == found


@pytest.mark.parametrize(
    "written",
    [0, -3, True, 2.5, "", "many", "0 tokens", "0 minutes", "1.5 examples", "10 hours", "-3 minutes", "200k", None],
)
def test_what_is_no_budget(written: Any) -> None:
    with pytest.raises(ValueError, match="200k tokens"):
        selecting(budget=written)


PROFILE = """
[model]
source = "demo"
[[step]]
use = "select_prompt"
task = "sst2"
candidates = ["Good or bad?"]
budget = {budget}
"""


@pytest.mark.parametrize("budget", ["300", '"200k tokens"', '"10 minutes"'])
def test_a_profile_keeps_its_budget(budget: str) -> None:
    read = profiles.parse(PROFILE.format(budget=budget), "test")
    assert profiles.parse(profiles.dump(read), "again") == read
    assert read.step[0].budget == json.loads(budget)
    edited = profiles.edit(PROFILE.format(budget=5), {"step.0.budget": json.loads(budget)})
    assert profiles.parse(edited, "edited") == read


def test_a_wrong_one_is_one_problem_at_its_key() -> None:
    with pytest.raises(ProfileError) as refused:
        profiles.parse(PROFILE.format(budget='"10 hours"'), "test")
    assert [(p.key, "10 minutes" in p.message) for p in refused.value.problems] == [("step.0.budget", True)]
    kinds = profiles.schema()["$defs"]["SelectPromptOptions"]["properties"]["budget"]["anyOf"]
    assert {kind["type"] for kind in kinds} == {"integer", "string"}


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 900))
def test_tokens_are_the_prompts_for_every_row(name: str, lengths: list[int], rows: int, extra: int) -> None:
    planted = Planted([0.3 + 0.05 * i for i in range(len(lengths))], rows)
    race = planted.race(sum(lengths) + extra)
    race.unit, race.tokens = "tokens", lengths
    OPTIMIZERS.load(name).choose(race)
    met = Counter(candidate for candidate, _ in planted.asked)
    assert race.spent == sum(count * lengths[c] for c, count in met.items()) <= race.budget
    assert met.keys() == set(range(len(lengths)))
    assert race.scored == len(planted.asked)


def test_a_token_budget_shows_long_prompts_as_many_rows_as_short_ones() -> None:
    race = Planted([0.5, 0.6]).race(100)
    race.unit, race.tokens = "tokens", [2, 8]
    OPTIMIZERS.load("exhaustive").choose(race)
    assert [race.met(0), race.met(1)] == [10, 10]


@pytest.mark.parametrize("name", NAMES)
def test_minutes_end_a_race_that_has_rows_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Ticking(6))
    race = Planted([0.4, 0.8, 0.5, 0.6], 400, noise=0.1).race(3)
    race.unit, race.clock = "minutes", Clock(tmp_path / "minutes.jsonl")
    assert OPTIMIZERS.load(name).choose(race) == 1
    least = 3 - 4 * 0.1 if name == "exhaustive" else 4 * 0.1  # halving may drop all but one of them early
    assert least < race.spent <= 3 + 0.1, "up to a block's time"
    assert race.scored < 4 * 400
    assert all(race.met(candidate) for candidate in range(4))


def test_with_time_for_all_everybody_meets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Ticking(0.001))
    race = Planted([0.4, 0.8, 0.5], 100).race(3)
    race.unit, race.clock = "minutes", Clock(tmp_path / "minutes.jsonl")
    OPTIMIZERS.load("exhaustive").choose(race)
    assert race.scored == 3 * 100


def test_a_clock_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Ticking(30))
    first = Clock(tmp_path / "minutes.jsonl")
    first.start()
    assert [first.lap(), first.lap()] == [0.5, 0.5]
    monkeypatch.setattr(clock, "time", Ticking(60))
    again = Clock(tmp_path / "minutes.jsonl")
    again.start()
    again.start()
    assert [again.lap() for _ in range(4)] == [0.5, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("kept", "laps"), [("0.5\n0.25\n0.2", [0.5, 0.25]), ("0.5\n", [0.5]), ("0.", []), ("", [])])
def test_a_lap_that_a_kill_has_torn_is_measured_again(
    kept: str, laps: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "time", Ticking(60))
    file = tmp_path / "minutes.jsonl"
    file.write_text(kept)
    for more in ([1.0], [1.0, 1.0]):
        again = Clock(file)
        again.start()
        assert [again.lap() for _ in [*laps, *more]] == [*laps, *more]
        assert [json.loads(line) for line in file.read_text().splitlines()] == [*laps, *more]


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("after", [4, 11, 23])
def test_a_stopped_race_has_spent_its_minutes_and_keeps_what_it_decided(
    method: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take 6 s a block: the resumed one meets the rows that the whole one met, and no more in all."""
    summaries, dev = [], []
    for name in ("whole", "stopped"):
        monkeypatch.setattr(clock, "time", Ticking(6))
        step, told = selecting(method=method, budget="2 minutes"), list[ev.Event]()
        if name == "stopped":
            made, asked = at_work(tmp_path / name, step), iter(range(100))
            made.should_stop = lambda asked=asked: next(asked) >= after
            with contextlib.suppress(Cancelled):
                select.run(made, step)
            assert (tmp_path / name / "checkpoints" / "step-0-minutes.jsonl").read_text()
        summaries.append(select.run(at_work(tmp_path / name, step, told), step))
        dev.append(
            [(e.candidate, e.n, e.accuracy) for e in told if isinstance(e, ev.CandidateScored) and e.split == "dev"]
        )
    assert summaries[0] == summaries[1]
    assert dev[0] == dev[1]
    laps = (tmp_path / "stopped" / "checkpoints" / "step-0-minutes.jsonl").read_text().splitlines()
    assert sum(map(float, laps)) <= 2 + 0.1 + 5 * 0.1, "and what the plain prompt caught up"


def test_minutes_that_are_over_before_all_have_met_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Ticking(60))
    step = selecting(budget="2 minutes")
    with pytest.raises(UsageError, match="2 minutes were over before c02 had met a row") as refused:
        select.run(at_work(tmp_path / "run", step), step)
    assert refused.value.where == "step.0.budget"


@pytest.mark.parametrize("budget", ["3000 tokens", "5 minutes"])
def test_an_adjuster_spends_in_the_same_units(budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Ticking(6))
    step = AdjustPromptOptions.model_validate({
        "use": "adjust_prompt", "task": "toy", "instruction": "Is it true, or is it not?", "rows": 8, "test_rows": 10,
        "finalists": 3, "budget": budget,
    })  # fmt: skip
    told = list[ev.Event]()
    made = at_work(tmp_path / "run", step, told)
    preflight.check_prompts(foreseen.steps(made, []))
    adjust.run(made, step)
    tokens = {e.candidate: e.tokens for e in told if isinstance(e, ev.CandidateAdded)}
    met: dict[str, int] = {}
    for event in told:
        if isinstance(event, ev.CandidateScored) and event.split == "dev":
            met[event.candidate] = max(event.n, met.get(event.candidate, 0))
    assert len(met) > 3
    if budget.endswith("tokens"):
        assert sum(tokens[name] * n for name, n in met.items()) <= 3000 + 2 * 40 * tokens["start"]
    shown = [e for e in told if isinstance(e, ev.Progress) and e.label == "racing prompts"]
    assert {(e.total, e.unit) for e in shown} == {(3000, "tokens") if "tokens" in budget else (300, "seconds")}


def slow_search(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own: float, slow: dict[str, float]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The step's summary and the development rows that each met, where proposing takes so many minutes and so does, by name,
    meeting rows; whatever was proposed is right.
    """
    now = Ticking(0.6)
    monkeypatch.setattr(clock, "time", now)

    def answers(prompt: Prompt, row: Row) -> float:
        now.now += 60 * slow.get(prompt.name, 0) / 8
        return 4.0 if prompt.name.startswith("a") else -4.0

    def proposed(setting: Setting) -> Adjuster:
        for number in range(2):
            now.now += 60 * own * number
            yield [setting.with_instruction(f"the {number} {i}", "") for i in range(4)]

    answering(monkeypatch, answers)
    monkeypatch.setattr(grips, "adjust", proposed)
    step = AdjustPromptOptions(use="adjust_prompt", task="toy", budget="100 minutes", rows=16, finalists=8, test_rows=5)
    told = list[ev.Event]()
    summary = adjust.run(at_work(folder, step, told), step)
    scored = [e for e in told if isinstance(e, ev.CandidateScored) and e.split == "dev"]
    return summary, {name: max(e.n for e in scored if e.candidate == name) for name in {e.candidate for e in scored}}


@pytest.mark.parametrize(("own", "entered"), [(0, 8), (59, 4), (300, 4)])
def test_an_adjusters_own_minutes_are_spent_before_it_enters_more(
    own: float, entered: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, met = slow_search(tmp_path / "run", monkeypatch, own, {})
    assert summary["candidates"] == len(met) == 1 + entered
    assert summary["winner"].startswith("a") == (own < 300), (
        "what is left shows the finalists a single row, which is no lead"
    )


def test_who_meets_a_row_only_in_part_when_the_minutes_end_is_no_finalist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, met = slow_search(tmp_path / "run", monkeypatch, 0, {"a03": 150})
    assert met.pop("a03") == 8, "of the 16"
    assert min(met.values()) >= 16
    assert summary["candidates"] == 4
    assert summary["winner"] == "plain", "nobody is ahead on the single row that is left for the final"


@pytest.mark.parametrize(
    "step",
    [
        selecting(budget="30 tokens"),
        AdjustPromptOptions(use="adjust_prompt", task="toy", budget="100 tokens"),
    ],
)
def test_tokens_that_show_nothing_are_refused_before_the_run(step: PromptStepOptions, tmp_path: Path) -> None:
    made = at_work(tmp_path / "run", step)
    with pytest.raises(UsageError, match="a budget of .*0 tokens") as refused:
        preflight.check_prompts(foreseen.steps(made, []))
    assert refused.value.where == "step.0.budget"
