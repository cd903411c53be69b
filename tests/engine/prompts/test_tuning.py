"""Training virtual tokens: the loss in closed form, gradients in nothing else, a training that ends with its best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.models import subject
from fixtures.prompting import TEMPLATE, standing, toy

from engine.prompts import calibration
from engine.prompts.bounds import Bounds
from engine.prompts.judging import Standing
from engine.prompts.lessons import ChoiceLessons, Lessons, Teacher, choice_loss
from engine.prompts.options import EmbedPromptOptions, Form
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft, beginning
from engine.prompts.template import Prompt
from engine.prompts.tuning import Epoch, Memory, Trainee, Tuning
from engine.subject import Subject
from engine.weights import weights_hash

TEXT = Prompt("plain", TEMPLATE)


def lessons(
    model: Subject, teacher: torch.Tensor | None = None, alpha: float = 0.5, choices: Any = None
) -> ChoiceLessons:
    rows = [replace(row, choices=choices or row.choices) for row in toy().train]
    made = ChoiceLessons.of(Scorer(model), TEXT, rows, 6, None, alpha, 2.0, torch.float32)
    return replace(made, teacher_RC=teacher)


def start(model: Subject, form: Form = "soft") -> Soft:
    return beginning(form, model, [40, 50, 60, 70, 80, 90])


def trainee(model: Subject, form: Form = "soft") -> Trainee:
    return Trainee.virtual(start(model, form), model.device)


def trained(made: Tuning, form: Form = "soft") -> Soft:
    """What a training ends with."""
    begun = trainee(made.lessons.subject, form)
    best = made.run(begun)
    assert torch.equal(begun.weights[0].detach(), best[0])
    return replace(start(made.lessons.subject, form), weight_NW=best[0])


def options(**changes: Any) -> EmbedPromptOptions:
    made = {
        "use": "embed_prompt",
        "task": "toy",
        "tokens": 6,
        "epochs": 6,
        "batch": 5,
        "learning_rate": 3e-2,
        **changes,
    }
    return EmbedPromptOptions.model_validate(made)


def shortest_first(made: Lessons, batch: list[int]) -> list[int]:
    return sorted(batch, key=lambda i: max(len(s.tokens) for s in made.sequences[i]))


@pytest.mark.parametrize("choices", [None, (" a very long choice", " no", " yes indeed")], ids=["one-token", "several"])
@pytest.mark.parametrize("form", ["soft", "prefix"])
@pytest.mark.parametrize(
    ("name", "changes"), [("llama", {}), ("gpt2", {}), ("gemma3_text", {"sliding_window": 24}), ("mixtral", {})]
)
def test_it_trains_on_the_scores_that_the_scorer_gives(name: str, changes: Any, form: Form, choices: Any) -> None:
    model = subject(name, **changes)
    soft, made = start(model, form), lessons(model, choices=choices)
    rows = [replace(row, choices=choices or row.choices) for row in toy().train]
    wanted = Scorer(model).score(replace(TEXT, soft=soft), rows)
    with torch.no_grad():
        torch.testing.assert_close(made.scores(soft, range(len(rows))), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(made.scores(soft, [7, 2]), wanted[[7, 2]], atol=1e-4, rtol=1e-4)


def test_the_loss_in_closed_form() -> None:
    scores = torch.tensor([[-1.0, -2.0, -1e9], [-3.0, -0.5, -1.5]], dtype=torch.float64)
    teacher = torch.tensor([[-0.3, -1.0, -torch.inf], [-2.0, -2.0, -1.0]], dtype=torch.float64)
    gold = torch.tensor([1, 0])
    p = scores.softmax(1)
    right = float(-(p[0, 1].log() + p[1, 0].log()) / 2)
    assert float(choice_loss(scores, gold, None, 0.5, 2.0)) == pytest.approx(right)
    assert float(choice_loss(scores, gold, scores, 0.25, 2.0)) == pytest.approx(0.75 * right)
    q, t = (scores / 2).softmax(1), (teacher / 2).softmax(1)
    kl = [sum(float(t[r, c] * (t[r, c] / q[r, c]).log()) for c in range(3 - (r == 0))) for r in range(2)]
    assert float(choice_loss(scores, gold, teacher, 1.0, 2.0)) == pytest.approx(4 * sum(kl) / 2)
    assert float(choice_loss(scores, gold, teacher, 0.25, 2.0)) == pytest.approx(0.75 * right + 0.25 * 2 * sum(kl))


@pytest.mark.parametrize("kind", ["none", "batch", "contextual"])
def test_a_teacher_s_choices_are_calibrated_as_it_is_told(kind: str) -> None:
    scorer, rows = Scorer(subject("llama", seed=1)), toy().train
    inputs = calibration.meaningless(kind, rows, 0)
    found = Teacher(scorer, TEXT, kind, inputs).choices(rows)
    scores = scorer.score(TEXT, rows)
    empty = scorer.score(TEXT, inputs).softmax(1).mean(0) if inputs else None
    bias = {"none": torch.ones(2), "batch": scores.softmax(1).mean(0), "contextual": empty}[kind]
    assert bias is not None
    torch.testing.assert_close(found.softmax(1), torch.nn.functional.normalize(scores.softmax(1) / bias, p=1, dim=1))


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_the_gradient_is_that_of_finite_differences_and_in_the_prompt_alone(form: Form) -> None:
    model = subject("llama")
    made = lessons(model, torch.randn(12, 2, generator=torch.Generator().manual_seed(1)))
    soft = start(model, form)
    weight = soft.weight_NW.clone().requires_grad_(True)
    with torch.enable_grad():
        made.loss(replace(soft, weight_NW=weight), range(12)).backward()
    assert all(p.grad is None for p in model.module.parameters())
    assert weight.grad is not None
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-2
    with torch.no_grad():
        above, below = (
            float(made.loss(replace(soft, weight_NW=soft.weight_NW + sign * step * direction), range(12)))
            for sign in (1, -1)
        )
    assert float((weight.grad * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=0.02, abs=1e-4)


def test_rows_with_fewer_choices_have_a_finite_gradient() -> None:
    model, rows = subject("llama"), toy().train
    rows = [replace(row, choices=(*row.choices, " good")) if i % 2 else row for i, row in enumerate(rows)]
    made = ChoiceLessons.of(Scorer(model), TEXT, rows, 6, Teacher(Scorer(model), TEXT), 0.5, 1.0, torch.float32)
    assert made.teacher_RC is not None
    assert torch.equal(made.teacher_RC, Scorer(model).score(TEXT, rows))
    weight = start(model).weight_NW.clone().requires_grad_(True)
    with torch.enable_grad():
        made.loss(replace(start(model), weight_NW=weight), range(12)).backward()
    assert weight.grad is not None
    assert bool(torch.isfinite(weight.grad).all())


@pytest.mark.parametrize("choices", [None, (" a very long choice", " no", " yes indeed")], ids=["one-token", "several"])
def test_a_batch_in_parts_has_the_same_gradient(choices: Any, tmp_path: Path) -> None:
    model, batch = subject("llama"), [7, 2, 9, 0, 4]
    made = tuning(tmp_path / "t", model, [], [], [])
    made.lessons = replace(lessons(model, choices=choices), bounds=Bounds(10**6, 10**6))
    memory = Memory(trainee(model))
    by_length = shortest_first(made.lessons, batch)
    assert by_length != batch
    assert list(made.lessons.parts(batch, 6)) == [by_length]
    whole, (gradient,) = made._gradient(memory, batch)
    for bounds in (Bounds(130, 8192), Bounds(512, 130)):
        made.lessons = replace(made.lessons, bounds=bounds)
        cut = list(made.lessons.parts(batch, 6))
        assert len(cut) > 1
        assert [i for part in cut for i in part] == by_length, "the fewest tokens of padding"
        for part in cut:
            lengths = [len(s.tokens) for i in part for s in made.lessons.sequences[i]]
            assert len(part) == 1 or len(lengths) * max(lengths) <= 130 + len(lengths) * len(made.lessons.prefix)
        loss, (found,) = made._gradient(memory, batch)
        assert loss == pytest.approx(whole, rel=1e-5)
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-3)


def test_lessons_are_cut_by_what_a_backward_pass_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bounds, "learning", lambda model: Bounds(77, 99))
    assert lessons(subject("llama")).bounds == Bounds(77, 99)


def test_where_memory_runs_out_halves_of_a_batch_have_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, batch = subject("llama"), [7, 2, 9, 0, 4]
    made = tuning(tmp_path / "t", model, [], [], [])
    memory, loss_of, learned = Memory(trainee(model)), ChoiceLessons.loss, list[int]()
    whole, (gradient,) = made._gradient(memory, batch)

    def scarce(self: ChoiceLessons, soft: Soft | None, part: list[int]) -> torch.Tensor:
        loss = loss_of(self, soft, part)
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        learned.extend(part)
        return loss

    warned = list[str]()
    made.warn = warned.append
    monkeypatch.setattr(ChoiceLessons, "loss", scarce)
    loss, (found,) = made._gradient(memory, batch)
    assert learned == shortest_first(made.lessons, batch)
    made._gradient(memory, batch)
    assert ["memory ran out" in warning for warning in warned] == [True], "once"
    assert loss == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-3)


def judged(skill: float) -> Standing:
    return standing(np.ones(4, dtype=bool), np.zeros(4), skill)


def tuning(
    file: Path, model: Subject, skills: list[float], told: list[Epoch], warned: list[str], **changes: Any
) -> Tuning:
    return Tuning(
        lessons(model), options(**changes), 1, file, lambda soft: judged(skills[len(told)]), told.append,
        lambda done, total: None, warned.append,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_the_loss_falls_and_the_model_stays(form: Form, tmp_path: Path) -> None:
    model, told, warned = subject("llama"), list[Epoch](), list[str]()
    before = weights_hash(model.module)
    rising = [0.1 * i for i in range(7)]
    soft = trained(tuning(tmp_path / "t", model, rising, told, warned), form)
    losses = [epoch.loss for epoch in told]
    assert losses[0] is None
    assert losses[-1] < 0.9 * losses[1]
    assert [epoch.best for epoch in told] == [True] * 7
    assert soft != start(model, form)
    assert weights_hash(model.module) == before
    assert all(p.grad is None for p in model.module.parameters())


def test_it_ends_when_checks_get_no_better_and_gives_back_the_best(tmp_path: Path) -> None:
    model, told, warned = subject("llama"), list[Epoch](), list[str]()
    skills = [0.5, 0.6, 0.55, 0.6, 0.5]
    soft = trained(tuning(tmp_path / "a", model, skills, told, warned, patience=3))
    assert [epoch.number for epoch in told] == [0, 1, 2, 3, 4]
    assert [epoch.best for epoch in told] == [True, True, False, False, False]
    short = tuning(tmp_path / "b", model, skills, short_told := list[Epoch](), warned)
    short.step = lambda done, total: stop_after(short_told, 2)
    with pytest.raises(KeyboardInterrupt):
        trained(short)
    assert soft == replace(start(model), weight_NW=kept(tmp_path / "b"))
    assert warned == []


def stop_after(told: list[Epoch], epochs: int) -> None:
    if len(told) == epochs:
        raise KeyboardInterrupt


def kept(file: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(file)["weight.0"]


def test_the_start_stays_when_nothing_is_better(tmp_path: Path) -> None:
    model, told = subject("llama"), list[Epoch]()
    assert trained(tuning(tmp_path / "t", model, [0.5] * 9, told, [])) == start(model)
    assert len(told) == 4


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    model, told, warned = subject("llama"), list[Epoch](), list[str]()
    made = tuning(tmp_path / "t", model, [0.5, 0.6, 0.7], told, warned)
    update, counted = made._update, iter(range(100))

    def broken(memory: Memory, batch: list[int], rate: float) -> float:
        if next(counted) == 4:  # in the middle of the second epoch
            memory.trainee.weights[0].data[0, 0] = torch.nan
        return update(memory, batch, rate)

    made._update = broken
    soft = trained(made)
    assert "not finite in epoch 2" in warned[0]
    assert [epoch.number for epoch in told] == [0, 1]
    assert soft != start(model)
    assert bool(torch.isfinite(soft.weight_NW).all())


@pytest.mark.parametrize("steps", [1, 4, 8, 11])
def test_stopped_anywhere_and_run_again_it_ends_with_the_same_bits(steps: int, tmp_path: Path) -> None:
    model = subject("llama")
    skills = [0.5, 0.6, 0.7, 0.65, 0.8, 0.9, 0.7]
    told, heard = list[Epoch](), list[Epoch]()
    wanted = trained(tuning(tmp_path / "whole", model, skills, told, []))
    first = tuning(tmp_path / "broken", model, skills, heard, [])
    counted = iter(range(1, 1000))

    def stop(done: int, total: int) -> None:
        if next(counted) == steps:
            raise KeyboardInterrupt

    first.step = stop
    with pytest.raises(KeyboardInterrupt):
        trained(first)
    assert trained(tuning(tmp_path / "broken", model, skills, heard, [])) == wanted
    assert [epoch.number for epoch in heard] == [epoch.number for epoch in told]


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_an_epoch_that_was_kept_has_been_told(epoch: int, tmp_path: Path) -> None:
    """The process ends when an epoch is to be told: it is told by the next one."""
    model, heard = subject("llama"), list[Epoch]()
    skills = [0.5, 0.6, 0.7, 0.65, 0.8, 0.9, 0.7]
    first = tuning(tmp_path / "broken", model, skills, heard, [])

    def tell(found: Epoch) -> None:
        if found.number == epoch:
            raise KeyboardInterrupt
        heard.append(found)

    first.tell = tell
    with pytest.raises(KeyboardInterrupt):
        trained(first)
    trained(tuning(tmp_path / "broken", model, skills, heard, []))
    assert [found.number for found in heard] == list(range(7))
