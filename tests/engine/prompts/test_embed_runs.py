"""Whole runs with the `embed_prompt` step: behind compression of every kind, twice in a run, and killed in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.killing import Condition, Killed, die_when, nth
from fixtures.moods import MakeRun, run_maker

from engine import events as ev
from engine.prompts import soft as soft_prompts
from engine.prompts.race import Race
from engine.worker import execute

PRUNE = '[[step]]\nuse = "prune"\n'
EMBED = '[[step]]\nuse = "embed_prompt"\ntask = "mood"\nepochs = 3\nbatch = 4\ntokens = 6\nlearning_rate = 5e-2\nrows = 10\n'
PREFIX = EMBED + 'form = "prefix"\n'


@pytest.fixture
def begin(tmp_path: Path) -> MakeRun:
    return run_maker(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("step", [EMBED, PREFIX], ids=["soft", "prefix"])
def test_in_every_number_format(begin: MakeRun, step: str, compute: str, dtype: str) -> None:
    run = begin(PRUNE, step, dtype=dtype, compute=compute)
    assert execute(run) == 0, run.state().failure
    losses = [event.loss for event in run.state().trainings if event.loss is not None]
    assert losses[-1] < losses[0]
    assert "## Trained prompts" in (run.path / "report.md").read_text()


@pytest.mark.parametrize("structure", ["channels", "hidden", "heads"])
def test_of_a_model_of_other_sizes(begin: MakeRun, structure: str) -> None:
    run = begin(PRUNE + f'pattern = "{structure}"\nsparsity = 0.5\n', EMBED + "control = true\n")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    on_dense = {name for name, c in state.candidates.items() if any(stage == "dense" for stage, _, _ in c.scores)}
    assert "plain" in on_dense
    assert len(state.trainings) > 1


@pytest.mark.parametrize("moment", [1, 2, 3])
@pytest.mark.parametrize("step", [EMBED, PREFIX], ids=["soft", "prefix"])
def test_a_killed_run_ends_as_a_whole_one(begin: MakeRun, step: str, moment: int) -> None:
    whole, broken = begin(PRUNE, step), begin(PRUNE, step)
    assert execute(whole) == 0, whole.state().failure
    condition: Condition = nth(ev.PromptTrained, moment)
    with pytest.raises(Killed):
        execute(broken, also=die_when(condition))
    assert execute(broken) == 0, broken.state().failure
    assert broken.state().steps[1].summary == whole.state().steps[1].summary
    assert [(t.epoch, t.loss) for t in broken.state().trainings] == [(t.epoch, t.loss) for t in whole.state().trainings]
    kept = [run.checkpoints / "step-1-prompt.safetensors" for run in (whole, broken)]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    folders = [run.artifacts / "soft-prompt" for run in (whole, broken)]
    assert soft_prompts.load(folders[0]) == soft_prompts.load(folders[1])


@pytest.mark.parametrize("step", [EMBED, PREFIX], ids=["soft", "prefix"])
def test_a_model_of_other_sizes_begins_anew(begin: MakeRun, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(Race, "best", lambda race, start, found: max(found))  # what was learned is kept
    pattern = "hidden" if step == EMBED else "heads"
    run = begin(step, PRUNE + f'pattern = "{pattern}"\nsparsity = 0.5\n', step)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert state.steps[0].summary["kept"]
    assert state.steps[2].summary["kept"]
    assert [log.message for log in state.log if log.level == "warning" and "other sizes now" in log.message]
    assert {event.step for event in state.trainings} == {0, 2}


def test_a_second_step_goes_on_with_the_first_ones_prompt(begin: MakeRun) -> None:
    run = begin(EMBED, PRUNE + "sparsity = 0.5\n", EMBED)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert {event.step for event in state.trainings} == {0, 2}
    first, second = (state.steps[i].summary for i in (0, 2))
    assert second["prompts"] == "soft-prompt-2"
    start = state.candidates["2.start"] if "2.start" in state.candidates else state.candidates["2.plain"]
    assert start.text.startswith("<6 soft tokens>") == first["kept"]
