"""Whole runs with the `joint` step on a tiny model: the grid, the levels' weights, the transfer matrix, a kill, the gate."""

from __future__ import annotations

import json

import pytest
import torch
from fixtures.killing import Condition, Killed, die_when, nth
from fixtures.moods import MakeRun, run_maker

from engine import events as ev
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, LORA, PLAIN, PROMPTS, SOFT
from engine.events.joint import TEXT as BEST_TEXT
from engine.joint import grid
from engine.prompts import adjust
from engine.prompts.adjusting import Adjuster
from engine.prompts.contest import Contest
from engine.prompts.options import AdjustPromptOptions
from engine.runs import Run
from engine.state import RunState
from engine.worker import execute

JOINT = """
[[step]]
use = "joint"
task = "mood"
calibration = "batch"
levels = [0.4, 0.7]
lora = true
[step.select]
candidates = ["Say if it is good.", "Good or bad?"]
budget = 100
[step.adjust]
budget = 80
rows = 8
finalists = 2
[step.embed]
epochs = 5
batch = 4
tokens = 4
learning_rate = 5e-2
rows = 4
"""
EXPORT = '[[step]]\nuse = "export"\nverify = false\n'


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    return run_maker(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def whole(begin: MakeRun) -> Run:
    run = begin(JOINT, EXPORT)
    assert execute(run) == 0, run.state().failure
    return run


def only(run: Run) -> RunState:
    state = run.state()
    assert state.status == "done", state.failure
    return state


def outcome(run: Run) -> object:
    """The step's figures and choice."""
    state = only(run)
    grid = {key: (e.candidate, e.accuracy, e.margin, e.chosen) for key, e in state.grid.items()}
    won = {key: (e.value, e.low, e.high, e.gap, e.control) for key, e in state.recovered.items()}
    moved = {key: e.accuracy for key, e in state.transfers.items()}
    return grid, won, moved, state.steps[0].summary


def weights(run: Run) -> dict[str, torch.Tensor]:
    """What the run has exported."""
    from safetensors.torch import load_file

    return load_file(run.artifacts / "model" / "model.safetensors")


def test_the_grid_is_whole(whole: Run) -> None:
    state = only(whole)
    levels = ("dense", "40%", "70%")
    carried = {(0, "dense", kind) for kind in (CARRIED_TEXT, CARRIED_SOFT)}
    assert state.grid.keys() == {(0, level, kind) for level in levels for kind in PROMPTS} - carried
    assert len({event.n for event in state.grid.values()}) == 1
    assert [sum(e.chosen for (_, at, _), e in state.grid.items() if at == level) for level in levels] == [1, 1, 1]
    assert not any(state.grid[0, level, LORA].chosen for level in levels)
    assert state.recovered.keys() == {k for k in state.grid if k[1] != "dense" and k[2] != PLAIN}
    for (_, level, kind), event in state.recovered.items():
        lost = state.grid[0, "dense", PLAIN].accuracy - state.grid[0, level, PLAIN].accuracy
        assert event.gap == pytest.approx(lost)
        same = {CARRIED_TEXT: BEST_TEXT, CARRIED_SOFT: SOFT}.get(kind, kind)
        gained = state.grid[0, "dense", same].accuracy - state.grid[0, "dense", PLAIN].accuracy
        assert event.control == pytest.approx(gained)


def test_the_transfer_matrix_agrees_with_the_grid(whole: Run) -> None:
    state = only(whole)
    levels = ["dense", "40%", "70%"]
    assert state.transfers.keys() == {(0, kind, a, b) for kind in (BEST_TEXT, SOFT) for a in levels for b in levels}
    for kind, carried in ((BEST_TEXT, CARRIED_TEXT), (SOFT, CARRIED_SOFT)):
        for level in levels:
            assert state.transfers[0, kind, level, level].accuracy == state.grid[0, level, kind].accuracy
        for before, level in zip(levels, levels[1:], strict=False):
            assert state.transfers[0, kind, before, level].accuracy == state.grid[0, level, carried].accuracy


def test_the_weights_are_those_of_the_prune_step(begin: MakeRun, whole: Run) -> None:
    alone = begin('[[step]]\nuse = "prune"\nsparsity = 0.7\n', EXPORT)
    assert execute(alone) == 0, alone.state().failure
    expected, found = weights(alone), weights(whole)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert only(whole).steps[0].summary["level"] == "70%"


def test_the_prompt_is_kept_and_the_tables_are_written(whole: Run) -> None:
    from engine import outcome as outcomes
    from engine.prompts import kept

    summary = only(whole).steps[0].summary
    assert kept.read(outcomes.chosen_folder(whole, "mood")).prompt.name == summary["winner"]
    (chosen,) = [e for e in only(whole).grid.values() if e.level == "70%" and e.chosen]
    assert (summary["winner"], summary["accuracy"]) == (chosen.candidate, chosen.accuracy)
    tested = [row["stage"] for row in outcomes.rows(only(whole)) if row["prompt"] and row["calibration"] == "batch"]
    assert len(set(tested)) == len(tested)
    assert "70% sparse + best prompt" in tested
    assert set(tested) <= {f"70% sparse + {kind} prompt" for kind in (*PROMPTS, "best")}
    met = {e.candidate for e in only(whole).grid.values() if e.level == "70%" and e.prompt != LORA}
    assert len(tested) == len(met) >= 4, "one of the five may be the best"
    report = (whole.path / "report.md").read_text()
    for title in ("Levels and prompts", "Recovered", "Transfer"):
        assert f"## {title}" in report
    result = json.loads((whole.path / "result.json").read_text())
    assert [len(result[name]) for name in ("grid", "recovered", "transfers")] == [16, 10, 18]


@pytest.mark.parametrize(
    "moment",
    [nth(ev.LayerPruned, 3), nth(ev.PromptTrained, 5), nth(ev.Recovered, 2), nth(ev.Transferred, 9)],
    ids=["pruning", "lora", "between levels", "transfer"],
)
def test_a_killed_run_ends_as_a_whole_one(begin: MakeRun, whole: Run, moment: Condition) -> None:
    broken = begin(JOINT, EXPORT)
    with pytest.raises(Killed):
        execute(broken, also=die_when(moment))
    assert execute(broken) == 0, broken.state().failure
    assert outcome(broken) == outcome(whole)
    expected, found = weights(whole), weights(broken)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_rows_by_which_prompts_are_made_do_not_choose_among_them(
    begin: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, chose = [], []
    search, tested = adjust.search, grid.Meeting.tested

    def searching(contest: Contest, options: AdjustPromptOptions, adjuster: Adjuster, base: list[int], n: int) -> None:
        made.append(contest.race.rows[:n])
        search(contest, options, adjuster, base, n)

    def meeting(self: grid.Meeting, compared: bool = True) -> dict[str, grid.Cell]:
        chose.append(self.contest.race.rows)
        return tested(self, compared)

    monkeypatch.setattr(adjust, "search", searching)
    monkeypatch.setattr(grid.Meeting, "tested", meeting)
    only_one = JOINT.replace("levels = [0.4, 0.7]", "levels = [0.4]").replace("lora = true", "")
    run = begin(only_one)
    assert execute(run) == 0, run.state().failure
    assert len(made) == 2
    led = {id(row) for rows in made for row in rows}  # equal rows are different ones
    assert led
    assert not led & {id(row) for rows in chose for row in rows}


def test_a_finished_step_is_put_back(begin: MakeRun, whole: Run) -> None:
    broken = begin(JOINT, EXPORT)
    with pytest.raises(Killed):
        execute(broken, also=die_when(lambda e: isinstance(e, ev.StepStarted) and e.step == 1))
    assert execute(broken) == 0, broken.state().failure
    assert broken.state().steps[0].resumed
    expected, found = weights(whole), weights(broken)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_first_level_that_misses_the_gate_ends_the_walk_and_is_exit_code_4(begin: MakeRun) -> None:
    text = JOINT.partition("[step.adjust]")[0].replace("lora = true\n", "")
    run = begin(text + "[step.gate]\naccuracy_drop = -1.0\n", EXPORT)
    assert execute(run) == 4, run.state().failure
    state = only(run)
    (missed,) = state.gates
    assert (missed.step, missed.level, missed.name, missed.passed) == (0, "40%", "accuracy_drop", False)
    assert "| accuracy_drop at 40% | at most -1 |" in (run.path / "report.md").read_text()
    assert any("no level meets the gate" in line.message for line in state.log)
    assert {level for _, level, _ in state.grid} == {"dense", "40%"}
    assert state.steps[0].summary["level"] == "dense"
    assert any("the walk ends at 40%" in line.message for line in state.log)
    assert not any(bool((w == 0).float().mean() > 0.1) for w in weights(run).values())


def test_a_walk_over_free_answers(begin: MakeRun) -> None:
    """Their words are learned by virtual tokens and by low-rank weights; the answer is what a row's label is called."""
    folder = begin().path.parent
    text = JOINT.partition("[step.adjust]")[0] + "[step.embed]\nepochs = 1\nbatch = 8\ntokens = 4\nrows = 4\n"
    text = text.replace('"mood"\ncalibration = "batch"\nlevels = [0.4, 0.7]', '"said"\nlevels = [0.4]')
    run = begin(
        text, f'[task.said]\ntest = "file:{folder}/mood.jsonl"\ntemplate = "Review: {{text}}\\nGood?"\n',
        'answer_column = "label"\nmax_new_tokens = 4\n',
    )  # fmt: skip
    assert execute(run) == 0, run.state().failure
    state = only(run)
    assert {kind for _, level, kind in state.grid if level == "40%"} == set(PROMPTS)
    trained = [e for e in run.events() if isinstance(e, ev.PromptTrained) and e.epoch]
    assert {(e.candidate.rpartition(".")[2], e.metric) for e in trained} == {
        ("soft", "exact_match"),
        (LORA, "exact_match"),
    }
    assert all(e.loss and e.loss > 1 for e in trained)
