"""The `finetune` step in whole runs on tiny models: text, task and features; zeros stay; killed runs end with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.chatting import TURNS, talking
from fixtures.killing import Killed, Killing, die_when
from fixtures.models import TEXT, save, subject
from fixtures.prompting import toy
from fixtures.training import MEASURED, check_at, weights
from fixtures.workspaces import workspace
from safetensors.torch import load_file

from engine import events as ev
from engine import runs
from engine.runs import Run
from engine.training.learning import Learning, answers
from engine.training.losses import right_answers
from engine.training.material import IGNORED, material
from engine.training.options import FinetuneOptions
from engine.worker import execute

PROFILE = (
    'name = "finetune"'
    + MEASURED
    + """\
[[step]]
use = "prune"
criterion = "magnitude"
[[step]]
use = "finetune"
data = "{data}"
length = 32
steps = 20
batch = 2
check_every = 5
save_every = 4
held_out = 4
learning_rate = 5e-3
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

    def create(architecture: str = "llama", dtype: str = "float32", data: str = "calibration", more: str = "") -> Run:
        if not (tmp_path / "model").is_dir():
            save(architecture, tmp_path / "model")
        text = PROFILE.format(folder=tmp_path, dtype=dtype, data=data, more=more)
        return runs.create("finetune", text, tmp_path / f"run-{next(number)}")

    return create


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gemma2", "mixtral"])
def test_the_held_out_loss_falls_and_zeros_stay(begin: Callable[..., Run], architecture: str, tmp_path: Path) -> None:
    run = begin(architecture, data=f"file:{tmp_path}/text.txt", more="gradient_checkpointing = true\nmicro_batch = 1")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    summary = state.steps[1].summary
    assert summary["held_out_after"] < summary["held_out_before"]
    assert list(state.metrics) == ["dense", "pruned", "finetuned", "exported"]
    assert state.metrics["finetuned"]["perplexity"].value < state.metrics["pruned"]["perplexity"].value
    assert state.metrics["finetuned"]["sparsity"].value == state.metrics["pruned"]["sparsity"].value
    assert [event.done for event in state.losses] == [0, 5, 10, 15, 20]
    assert state.history["training loss"]
    exported = load_file(run.artifacts / "model" / "model.safetensors")
    for block in (0, 1):
        for name, pruned in load_file(run.checkpoints / f"step-0-block-{block}.safetensors").items():
            if name in exported:
                stored = exported[name].T if architecture == "gpt2" else exported[name]
                assert torch.equal(stored == 0, pruned == 0), name
    assert not list(run.checkpoints.glob("*unfinished*")), "the training's state is not kept"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("done", [0, 5, 20])
def test_resume_gives_the_same_bits(begin: Callable[..., Run], dtype: str, done: int) -> None:
    whole, broken = begin(dtype=dtype), begin(dtype=dtype)
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(check_at(done)))
    assert execute(broken) == 0, broken.state().failure
    assert weights(broken) == weights(whole)
    assert broken.state().steps[1].summary == whole.state().steps[1].summary
    assert execute(broken) == 0, "a finished run is taken from its checkpoints"
    assert weights(broken) == weights(whole)


def test_what_was_trained_is_not_trained_again_when_its_measuring_dies(begin: Callable[..., Run]) -> None:
    whole, broken = begin(), begin()
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(lambda event: isinstance(event, ev.Metric) and event.stage == "finetuned"))
    trained = [event for event in broken.events() if isinstance(event, ev.LossMeasured)]
    assert execute(broken) == 0, broken.state().failure
    assert [event for event in broken.events() if isinstance(event, ev.LossMeasured)] == trained
    assert weights(broken) == weights(whole)
    assert not list(broken.checkpoints.glob("*unfinished*"))


def test_kill_9_loses_no_bit(begin: Callable[..., Run], killed: Killing) -> None:
    whole, run = begin(), begin()
    killed(run, check_at(10))
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)


def test_a_module_learns_its_features(tmp_path: Path) -> None:
    text = """[model]\nsource = "builtin:linear"\n[calibration]\nsource = "builtin"\n[[step]]\nuse = "prune"
criterion = "importance"\nsparsity = 0.9\n[[step]]\nuse = "finetune"\nsteps = 60\nlearning_rate = 1e-2\nbatch = 20\n"""
    run = runs.create("linear", text, tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    assert state.steps[1].summary["held_out_after"] < state.steps[1].summary["held_out_before"]
    assert state.metrics["finetuned"]["sparsity"].value == 0.9


def options(**changes: Any) -> FinetuneOptions:
    return FinetuneOptions.model_validate({"use": "finetune", "held_out": 3, **changes})


@pytest.mark.parametrize("choices", [(" yes", " no"), (" a very long choice", " no")], ids=["one-token", "several"])
def test_a_task_asks_for_the_right_answer_alone(tmp_path: Path, choices: tuple[str, str], monkeypatch: Any) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    task = toy()
    rows = {split: [replace(row, choices=choices, gold=row.gold % 2) for row in getattr(task, split)]
            for split in ("train", "dev")}  # fmt: skip
    made._tasks["toy"] = replace(task, **rows)
    found = material(made, options(data="task:toy"))
    tokenizer: Any = made.subject.tokenizer
    assert len(found.held) == 3
    for index, row in zip(found.train, rows["train"], strict=True):
        asked = found.targets[index] != IGNORED
        answer = found.targets[index][asked]
        assert tokenizer.decode(answer) == row.choices[row.gold]
        read = tokenizer.decode([*found.inputs[index][: int(asked.nonzero()[0]) + 1], *answer])
        assert read.endswith(row.text + read[read.rindex(row.text) + len(row.text) :])
        assert torch.equal(found.inputs[index][1:][asked[:-1]], found.targets[index][:-1][asked[:-1]])


def test_of_several_words_the_shown_one_is_learned_and_a_chat_is_asked_as_one(tmp_path: Path) -> None:
    made, task = workspace(tmp_path / "run", talking(TURNS)), toy()
    several = [
        replace(row, choices=(" yes", " no"), more=((" value", " bound"), (" class",)), gold=0) for row in task.train
    ]
    made._tasks["toy"] = replace(task, train=several, chat="system")
    found, tokenizer = material(made, options(data="task:toy")), made.subject.tokenizer
    for index in found.train:
        assert tokenizer.decode(found.targets[index][found.targets[index] != IGNORED]).strip() == "yes"
        assert tokenizer.decode(found.inputs[index]).startswith("[user]")


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_shorter_rows_beside_longer_ones_change_no_loss(tmp_path: Path, name: str) -> None:
    made = workspace(tmp_path / "run", subject(name))
    made._tasks["toy"] = toy()
    found = material(made, options(data="task:toy"))
    learning = Learning.of(made.subject, found, right_answers, options(compute="float32"))
    rows = list(found.train)[:5]
    assert len({len(found.inputs[row]) for row in rows}) > 1
    whole = found.predicted(rows)
    together = learning.part(rows, whole)
    alone = sum(learning.part([row], whole) for row in rows)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert answers(made.subject, found, rows, torch.float32).logits_PV.shape[0] == whole


def test_checkpointed_blocks_give_the_same_gradients(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    gradients = []
    for checkpointing in (False, True):
        how = options(gradient_checkpointing=checkpointing, compute="float32")
        found = material(made, how)
        learning = Learning.of(made.subject, found, right_answers, how)
        made.subject.module.requires_grad_(True)
        parameters = list(made.subject.module.parameters())
        gradients.append(torch.autograd.grad(learning.part([0, 1], found.predicted([0, 1])), parameters))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
    assert all("forward" not in block.__dict__ for block in made.subject.blocks())


LINEAR = '[model]\nsource = "builtin:linear"\n[calibration]\nsource = "builtin"\n[[step]]\nuse = "finetune"\n'


def test_no_steps_are_refused(tmp_path: Path) -> None:
    run = runs.create("linear", LINEAR + "steps = 0", tmp_path / "run")
    assert execute(run) == 2
    failure = run.state().failure
    assert failure is not None
    assert "step.0.steps: Input should be greater than or equal to 1, not 0" in failure.message


@pytest.mark.parametrize("rate", ["1e6", "1e38"])
def test_a_rate_at_which_nothing_is_learned_keeps_the_old_weights_and_says_so(tmp_path: Path, rate: str) -> None:
    """At the larger one the loss is not finite any more."""
    text = LINEAR + f"steps = 40\ncheck_every = 5\nlearning_rate = {rate}\n"
    run = runs.create("linear", text + '[[step]]\nuse = "export"\n', tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    warnings = [event.message for event in state.log if event.level == "warning"]
    assert any("made nothing better" in message for message in warnings)
    assert any("not finite at step" in message for message in warnings) is (rate == "1e38")
    assert state.steps[0].summary["best_step"] == 0
    assert state.metrics["finetuned"]["accuracy:features"].value == state.metrics["dense"]["accuracy:features"].value


def test_data_shorter_than_a_batch_are_a_batch(tmp_path: Path) -> None:
    run = runs.create("linear", LINEAR + "steps = 3\nbatch = 1000\nlearning_rate = 1e-3\n", tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    assert any("84 windows or rows to train on: so many are a batch" in event.message for event in run.state().log)
    assert run.state().steps[0].summary["steps"] == 3


def test_data_too_short_to_hold_one_window_out_are_refused(begin: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("half a window")
    run = begin(data=f"file:{tmp_path}/few.txt")
    assert execute(run) == 3
    failure = run.state().failure
    assert failure is not None
    assert "too few to train on and hold one out" in failure.message
    assert failure.hint == "a longer text, or a smaller length"
