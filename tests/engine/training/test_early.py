"""What of a training is refused before the first long work, and what steps behind a new student are held against."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import TEXT, save, subject, tokenizer
from fixtures.training import MEASURED
from fixtures.workspaces import workspace
from torch import nn

from engine import events as ev
from engine import foreseen, preflight, runs
from engine import profile as profiles
from engine.errors import EngineError, Unavailable, UsageError
from engine.model import resolve
from engine.subject import Subject
from engine.training import teacher
from engine.training.options import DistillOptions
from engine.worker import execute
from engine.workspace import Workspace

DISTILL = '[[step]]\nuse = "distill"\n'
THIRDS = '[[step]]\nuse = "prune"\npattern = "2:3"\n'  # fits 48 columns and neither 32 nor 64
WIDE = {"hidden_size": 48, "intermediate_size": 96}


def space_of(folder: Path, steps: str, **changes: Any) -> Workspace:
    """A workspace around a tiny model of two blocks, 32 wide, with these steps to do."""
    space = workspace(folder / "run", subject("llama", **changes))
    model = space.profile.model
    text = '[model]\nsource = "demo"\n[calibration]\nlength = 40\n[evaluate]\nlength = 40\n' + steps
    profile = profiles.parse(text, "test")
    space.profile = profile.model_copy(update={"model": resolve(model)})
    return space


def check(space: Workspace) -> None:
    preflight.check(space, foreseen.few(space.subject).matrices)


def refused(space: Workspace) -> EngineError:
    with pytest.raises(EngineError) as error:
        check(space)
    assert not space.state.losses
    return error.value


def test_steps_behind_another_model_are_held_against_that_one(tmp_path: Path) -> None:
    save("llama", tmp_path / "wide", **WIDE)
    student = DISTILL + f'student = "{tmp_path}/wide"\n'
    check(space_of(tmp_path / "a", student + THIRDS))
    assert "does not divide the width" in refused(space_of(tmp_path / "b", THIRDS + student)).message
    assert "does not divide the width" in refused(space_of(tmp_path / "c", student + THIRDS.replace("3", "5"))).message


def test_another_model_is_known_whatever_has_been_taken_out_before(tmp_path: Path) -> None:
    save("llama", tmp_path / "wide", **WIDE)
    channels = '[[step]]\nuse = "prune"\npattern = "channels"\nsparsity = 0.25\n'
    student = DISTILL + f'student = "{tmp_path}/wide"\n'
    check(space_of(tmp_path / "a", channels + student + THIRDS))
    assert "width" in refused(space_of(tmp_path / "b", channels + student + THIRDS.replace("3", "5"))).message
    check(space_of(tmp_path / "c", channels + DISTILL + THIRDS))


def test_steps_behind_a_copy_with_fewer_blocks_see_those_alone(tmp_path: Path) -> None:
    steps = foreseen.steps(
        space := space_of(tmp_path, DISTILL + "student = [1]\n" + DISTILL), foreseen.few(subject("llama")).matrices
    )
    assert {matrix.block for matrix in steps[0].matrices or ()} == {0, 1}
    assert {matrix.block for matrix in steps[1].matrices or ()} == {0}
    assert len(space.subject.blocks()) == 2
    again = space_of(tmp_path, DISTILL + "student = [1]\n" + DISTILL + "student = [0, 1]\n")
    error = refused(again)
    assert (error.where, error.message) == ("step.1.student", "the model has blocks 0 to 0")


def test_an_export_is_held_against_the_student(tmp_path: Path) -> None:
    save("gpt2", tmp_path / "other")
    export = '[[step]]\nuse = "export"\nformat = "gguf_f16"\n'
    error = refused(space_of(tmp_path, DISTILL + f'student = "{tmp_path}/other"\n' + export))
    assert "Llama-family" in error.message


@pytest.mark.parametrize(
    ("step", "changes", "where"),
    [
        ('use = "finetune"\ndata = "stdlib"\nlength = 600', {}, "step.0.length"),
        ('use = "distill"\ndata = "stdlib"\nlength = 600', {}, "step.0.length"),
        ('use = "sparse_train"\ndata = "stdlib"', {"max_position_embeddings": 100}, "step.0.length"),
        ('use = "finetune"', {"max_position_embeddings": 30}, "calibration.length"),
    ],
)
def test_windows_longer_than_the_model_are_refused(
    tmp_path: Path, step: str, changes: dict[str, Any], where: str
) -> None:
    error = refused(space_of(tmp_path, f"[[step]]\n{step}\n", **changes))
    assert "positions" in error.message
    assert error.where == where
    assert error.hint == f"{where} = {changes.get('max_position_embeddings', 512)}"


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_windows_longer_than_teacher_or_student_are_refused(tmp_path: Path, who: str) -> None:
    save("llama", tmp_path / "short", max_position_embeddings=64)
    steps = DISTILL + f'{who} = "{tmp_path}/short"\ndata = "stdlib"\nlength = '
    assert "64 positions" in refused(space_of(tmp_path, steps + "65\n")).message
    check(space_of(tmp_path / "b", steps + "64\n"))


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_what_is_not_there_is_refused_with_its_key(tmp_path: Path, who: str) -> None:
    error = refused(space_of(tmp_path, DISTILL + f'{who} = "{tmp_path}/nowhere"\n'))
    assert isinstance(error, Unavailable)
    assert error.where == f"step.0.{who}"
    assert f"{tmp_path}/nowhere" in error.message


@pytest.mark.parametrize("who", ["teacher", "student"])
@pytest.mark.parametrize("source", ["builtin:linear", "python:fixtures.models:tiny"])
def test_a_module_and_a_language_model_do_not_go_together(tmp_path: Path, who: str, source: str) -> None:
    error = refused(space_of(tmp_path, DISTILL + f'{who} = "{source}"\n'))
    assert error.where == f"step.0.{who}"
    assert ("another module" if source.startswith("builtin") else "Python code of its own") in error.message


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_other_tokens_are_refused_early(tmp_path: Path, who: str) -> None:
    folder = save("llama", tmp_path / "other")
    words = copy.deepcopy(tokenizer())
    words.add_tokens(["<more>"])
    words.save_pretrained(folder)
    error = refused(space_of(tmp_path, DISTILL + f'{who} = "{folder}"\n'))
    assert "different tokenizers" in error.message
    assert error.where == f"step.0.{who}"
    assert error.hint
    assert who in error.hint


def test_a_text_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    error = refused(space_of(tmp_path, f'[[step]]\nuse = "finetune"\ndata = "file:{tmp_path}/none.txt"\n'))
    assert error.where == "step.0.data"


def test_a_finished_training_is_not_looked_at_again(tmp_path: Path) -> None:
    space = space_of(tmp_path, f'[[step]]\nuse = "finetune"\ndata = "file:{tmp_path}/none.txt"\n')
    space.finish({})
    check(space)


def test_a_language_model_is_not_begun_anew_behind_other_steps(tmp_path: Path) -> None:
    steps = '[[step]]\nuse = "prune"\n[[step]]\nuse = "sparse_train"\nstart = "scratch"\n'
    error = refused(space_of(tmp_path, steps))
    assert "from scratch" in error.message
    assert error.where == "step.1.start"


LINEAR = """[model]
source = "builtin:linear"
[calibration]
source = "builtin"
[[step]]
use = "prune"
sparsity = 0.3
[[step]]
"""


@pytest.mark.parametrize(
    ("step", "where"),
    [
        ('use = "recover"', "step.1.method"),
        ('use = "finetune"\ndata = "stdlib"', "step.1.data"),
        ('use = "distill"\nteacher = "demo"', "step.1.teacher"),
        ('use = "distill"\nstudent = [0]', "step.1.student"),
        ('use = "sparse_train"\nstart = "scratch"\nmethod = "straight_through"\npattern = "2:7"', "linear.weight"),
    ],
)
def test_what_a_module_cannot_have_is_refused_before_it_is_pruned(tmp_path: Path, step: str, where: str) -> None:
    run = runs.create("linear", LINEAR + step, tmp_path / "run")
    assert execute(run) == 2
    state = run.state()
    assert state.failure is not None
    assert state.failure.where == where
    assert not any(isinstance(event, ev.StepStarted) for event in run.events())


def test_a_module_that_cannot_be_begun_anew_is_refused_early(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.T

    space = space_of(tmp_path, '[[step]]\nuse = "sparse_train"\nstart = "scratch"\n')
    space.subject = Subject(Own(), "here", "f")
    [step] = foreseen.steps(space, [])
    with pytest.raises(UsageError, match=r"Own has weights and no reset_parameters\(\)") as error:
        preflight.check_trainings([step])
    assert error.value.where == "step.0.start"


@pytest.mark.parametrize(("cache", "loads"), [("true", 2), ("false", 1)])
def test_fusing_loads_the_teacher_as_rarely_as_memory_allows(
    tmp_path: Path, cache: str, loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; with answers on disk it is not in memory during the training."""
    (tmp_path / "text.txt").write_text(TEXT)
    save("llama", tmp_path / "model")
    text = MEASURED.format(folder=tmp_path, dtype="float32") + '[[step]]\nuse = "prune"\ncriterion = "magnitude"\n'
    text += DISTILL + f"steps = 2\nbatch = 2\nheld_out = 2\nfuse = [0.5]\ncache = {cache}\ntop = 7\n"
    run, counted = runs.create("fused", text, tmp_path / "run"), []
    found = teacher.subject_of

    def counting(workspace: Workspace, options: DistillOptions) -> Subject:
        counted.append(options.teacher)
        return found(workspace, options)

    monkeypatch.setattr(teacher, "subject_of", counting)
    assert execute(run) == 0, run.state().failure
    assert counted == ["dense"] * loads
