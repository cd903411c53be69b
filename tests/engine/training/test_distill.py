"""The `distill` step in whole runs on tiny models: teachers and students of every kind, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, Killing, die_when
from fixtures.models import TEXT, save, subject, tokenizer
from fixtures.training import MEASURED, check_at, weights
from fixtures.workspaces import workspace
from safetensors.torch import load_file
from torch import nn

from engine import events as ev
from engine import files, runs
from engine.errors import UsageError
from engine.model import resolve
from engine.runs import Run
from engine.subject import Origin, Subject
from engine.training import fusing
from engine.training.distill import Imitation, imitation, met
from engine.training.learning import Learning
from engine.training.material import material
from engine.training.options import DistillOptions
from engine.training.students import kept_blocks
from engine.training.teacher import Kept, Lesson, check_fit, teacher_of
from engine.worker import execute

PROFILE = (
    'name = "distill"'
    + MEASURED
    + """\
[[step]]
use = "prune"
criterion = "magnitude"
pattern = "{pattern}"
[[step]]
use = "distill"
steps = 20
batch = 2
check_every = 5
save_every = 4
held_out = 4
learning_rate = {rate}
top = 32
{more}
[[step]]
use = "export"
"""
)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Run]:
    """A new run of the profile on a tiny model of the architecture."""
    (tmp_path / "text.txt").write_text(TEXT)
    number = iter(range(100))

    def create(
        architecture: str = "llama",
        dtype: str = "float32",
        pattern: str = "unstructured",
        more: str = "",
        rate: float = 5e-3,
        **changes: Any,
    ) -> Run:
        if not (tmp_path / "model").is_dir():
            save(architecture, tmp_path / "model", **changes)
        text = PROFILE.format(folder=tmp_path, dtype=dtype, pattern=pattern, more=more, rate=rate)
        return runs.create("distill", text, tmp_path / f"run-{next(number)}")

    return create


def done(run: Run) -> dict[str, Any]:
    assert execute(run) == 0, run.state().failure
    summary = run.state().steps[1].summary
    assert summary["held_out_after"] < summary["held_out_before"]
    return summary


@pytest.mark.parametrize(
    "more",
    [
        "",
        "cache = false\nhidden = 0.1",
        "divergence = 'reverse'\ntemperature = 2.0",
        "divergence = 'jsd'\nanswers = 0.5",
    ],
)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_a_pruned_model_learns_from_its_dense_self(begin: Callable[..., Run], pattern: str, more: str) -> None:
    run = begin(pattern=pattern, more=more)
    summary = done(run)
    assert ("answers_bytes" in summary) == ("cache" not in more)
    metrics = run.state().metrics
    assert metrics["distilled"]["sparsity"].value == metrics["pruned"]["sparsity"].value
    assert metrics["exported"]["perplexity"].value == pytest.approx(metrics["distilled"]["perplexity"].value, rel=1e-6)
    exported = load_file(run.artifacts / "model" / "model.safetensors")
    for name, pruned in load_file(run.checkpoints / "step-0-block-1.safetensors").items():
        assert torch.equal(exported[name] == 0, pruned == 0), name


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "opt", "mixtral"])
def test_other_architectures_learn_too(begin: Callable[..., Run], architecture: str) -> None:
    more = "cache = false\nhidden = 0.1" if architecture == "gpt2" else ""
    done(begin(architecture, more=more, rate=1e-3))


@pytest.mark.parametrize("student", ['"every-second-block"', "[0, 3]"])
def test_a_student_may_be_some_of_the_blocks(begin: Callable[..., Run], student: str) -> None:
    run = begin(more=f"student = {student}\ncache = false\nhidden = 0.5", num_hidden_layers=4)
    done(run)
    state = run.state()
    assert state.model is not None
    assert {matrix["block"] for matrix in state.model.matrices} == {0, 1}
    assert state.removals[0].removed == ([1, 3] if "every" in student else [1, 2])
    stored = load_file(run.artifacts / "model" / "model.safetensors")
    assert len({name.split(".")[2] for name in stored if ".layers." in name}) == 2


def test_blocks_that_go_from_a_smaller_copy_are_named_by_its_own_numbers(begin: Callable[..., Run]) -> None:
    again = '[[step]]\nuse = "distill"\nstudent = [0, 2]\ncache = false\nsteps = 1\nheld_out = 4'
    run = begin(more=f"student = [0, 1, 3]\ncache = false\n{again}", num_hidden_layers=4)
    assert execute(run) == 0, run.state().failure
    assert [(event.removed, event.of) for event in run.state().removals] == [([2], 4), ([1], 3)]


def test_fusing_with_a_deeper_teacher_is_refused_before_anything_is_trained(
    begin: Callable[..., Run], tmp_path: Path
) -> None:
    save("llama", tmp_path / "deep", num_hidden_layers=3)
    run = begin(more=f'teacher = "{tmp_path}/deep"\nfuse = [0.5]')
    assert execute(run) == 2
    failure, losses = run.state().failure, run.state().losses
    assert failure is not None
    assert "no match to be fused with" in failure.message
    assert not losses


def test_answers_are_the_dense_model_s_whoever_has_been_the_student(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    made.dense, how = made.subject, options(top=8)
    found = material(made, how)
    items = met(made, found, how)
    first, _ = teacher_of(Lesson(made, how), found, items, made.subject, torch.float32)
    other = subject("llama", seed=3)
    made.subject = other
    again, _ = teacher_of(Lesson(made, how), found, items, other, torch.float32)
    assert again.folder == first.folder
    made = workspace(tmp_path / "other", other)
    made.dense = other
    theirs, _ = teacher_of(Lesson(made, how), found, items, other, torch.float32)
    assert theirs.folder != first.folder


def test_another_model_may_be_teacher_or_student(begin: Callable[..., Run], tmp_path: Path) -> None:
    for name, seed, width in (("teacher", 5, 48), ("student", 6, 16)):
        save("llama", tmp_path / name, seed, hidden_size=width, intermediate_size=2 * width)
    run = begin(more=f'teacher = "{tmp_path}/teacher"\nstudent = "{tmp_path}/student"')
    done(run)
    assert load_file(run.artifacts / "model" / "model.safetensors")["model.norm.weight"].shape == (16,)


@pytest.mark.parametrize(
    ("dtype", "at", "more"),
    [
        ("float32", 0, ""),
        ("bfloat16", 10, ""),
        ("bfloat16", 10, 'student = "every-second-block"'),
        ("float32", 20, "fuse = [0.2]"),
    ],
)
def test_resume_gives_the_same_bits(begin: Callable[..., Run], dtype: str, at: int, more: str) -> None:
    whole, broken = begin(dtype=dtype, more=more), begin(dtype=dtype, more=more)
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(check_at(at)))
    assert execute(broken) == 0, broken.state().failure
    assert weights(broken) == weights(whole)
    assert execute(broken) == 0, "a finished run is taken from its checkpoints"
    assert weights(broken) == weights(whole)


def test_kill_9_while_the_teacher_is_asked_loses_no_bit(begin: Callable[..., Run], killed: Killing) -> None:
    whole, run = begin(), begin(more="temperature = 1.25")
    text = whole.profile_file.read_text().replace("top = 32", "top = 32\ntemperature = 1.25")
    whole.profile_file.write_text(text)
    killed(run, lambda event: isinstance(event, ev.Progress) and event.label == "asking the teacher")
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)


def test_a_teacher_whose_answers_are_kept_is_not_loaded_again(begin: Callable[..., Run], monkeypatch: Any) -> None:
    first, second = begin(), begin()
    done(first)
    from engine.workspace import Workspace

    def loaded(self: Workspace) -> Subject:
        raise AssertionError("the teacher is loaded")

    monkeypatch.setattr(Workspace, "dense_subject", loaded)
    done(second)
    assert weights(first) == weights(second)
    assert (files.cache_folder() / "teachers").is_dir()


def options(**changes: Any) -> DistillOptions:
    return DistillOptions.model_validate(
        {"use": "distill", "held_out": 2, "steps": 2, "batch": 2, "compute": "float32", **changes}
    )


def test_all_tokens_kept_teach_what_the_loaded_teacher_does(tmp_path: Path) -> None:
    """Kept in float16, hence the tolerance."""
    made = workspace(tmp_path / "run", subject("llama", seed=1))
    made.dense = subject("llama")
    losses = []
    for changes in ({"cache": True, "top": 512}, {"cache": False}):
        how = options(**changes)
        found = material(made, how)
        teacher, _ = teacher_of(Lesson(made, how), found, met(made, found, how), made.subject, torch.float32)
        losses.append(Learning.of(made.subject, found, Imitation(teacher, how), how).held_out(2))
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize("padded", ["teacher", "student"])
def test_padded_vocabularies_fit(tmp_path: Path, padded: str) -> None:
    sizes = {"teacher": 512, "student": 512, padded: 544}
    made = workspace(tmp_path / "run", subject("llama", seed=1, vocab_size=sizes["student"]))
    made.profile = made.profile.model_copy(update={"model": resolve(made.profile.model)})
    source = str(save("llama", tmp_path / "teacher", vocab_size=sizes["teacher"]))
    for cache in (True, False):
        how = options(cache=cache, top=8, teacher=source)
        found = material(made, how)
        teacher, _ = teacher_of(Lesson(made, how), found, met(made, found, how), made.subject, torch.float32)
        loss = Learning.of(made.subject, found, Imitation(teacher, how), how).part([0, 1], found.predicted([0, 1]))
        assert teacher.vocabulary == 512
        assert bool(torch.isfinite(loss))


def test_other_tokens_are_refused_with_one_of_them() -> None:
    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {**tokenizer().get_vocab(), "Ġyes": 7}

    student = subject("llama")
    with pytest.raises(UsageError, match=r"1 tokens differ, 'Ġyes'"):
        check_fit(replace(student, tokenizer=Other()), student)


def test_a_module_and_a_language_model_do_not_fit() -> None:
    module = Subject(nn.Linear(3, 2), "here", "f")
    with pytest.raises(UsageError, match="teacher is another module"):
        check_fit(module, subject("llama"))


def test_states_of_another_width_are_refused(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    made.dense = subject("llama", hidden_size=48)
    how = options(hidden=1.0, cache=False)
    found = material(made, how)
    teacher, _ = teacher_of(Lesson(made, how), found, [], made.subject, torch.float32)
    with pytest.raises(UsageError, match="another width"):
        imitation(made, how, teacher, made.subject)
    made.subject.origin = Origin(hidden=list(range(32)))
    assert imitation(made, how, teacher, made.subject).kept == list(range(32))


def test_blocks_that_are_not_there_are_refused() -> None:
    assert kept_blocks("every-second-block", 5, "here") == [0, 2, 4]
    assert kept_blocks([3, 1, 1], 4, "here") == [1, 3]
    for wrong in ([4], []):
        with pytest.raises(UsageError, match="blocks 0 to 3"):
            kept_blocks(wrong, 4, "here")


def test_answers_that_left_the_cache_are_an_error(tmp_path: Path) -> None:
    from engine.errors import EngineError

    with pytest.raises(EngineError, match="left the cache"):
        Kept(tmp_path, torch.device("cpu"), 10).view([0])


def test_fusing_is_the_mean_on_the_kept_mask() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    student, teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.full((2, 2), 2.0)
    fusing.mix([weight], [student], [teacher], [student != 0], 0.25)
    assert torch.equal(weight.detach(), torch.tensor([[1.25, 0.0], [2.75, 3.5]]))
    fusing.mix([weight], [student], [teacher], [student != 0], 0.0)
    assert torch.equal(weight.detach(), student)


def test_the_share_is_chosen_on_held_out_data(begin: Callable[..., Run]) -> None:
    run = begin(more="fuse = [0.5, 1.0]")
    summary = done(run)
    assert summary["fused"] in (0.0, 0.5, 1.0)
    tried = [event.message for event in run.state().log if "of the teacher's weights" in event.message]
    assert len(tried) == 2
    assert summary["held_out_after"] <= min(event.loss for event in run.state().losses)


def test_a_module_learns_from_its_dense_self(tmp_path: Path) -> None:
    text = """[model]\nsource = "builtin:linear"\n[calibration]\nsource = "builtin"\n[[step]]\nuse = "prune"
criterion = "random"\nsparsity = 0.5\n[[step]]\nuse = "distill"\nsteps = 100\nlearning_rate = 1e-4\nbatch = 20
temperature = 2.0\nfuse = [0.5]\n"""
    run = runs.create("linear", text, tmp_path / "run")
    done(run)
    assert run.state().metrics["distilled"]["sparsity"].value == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 1.0}, "not kept on disk"),
        ({"answers": 0.0, "imitation": 0.0}, "nothing to learn"),
        ({"fuse": [0.5], "student": "every-second-block"}, "only the model as it is"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**changes)
