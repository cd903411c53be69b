"""The gradient by one-hot tokens against finite differences, and its loss against the scorer's figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.prompting import INSTRUCTION, TEMPLATE, WORDS

from engine.data.rows import Row
from engine.prompts import gradient
from engine.prompts import soft as soft_prompts
from engine.prompts.forward import Sequence_
from engine.prompts.gradient import Question
from engine.prompts.options import Form
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft
from engine.prompts.surprise import opening
from engine.prompts.template import Prompt
from engine.subject import Subject

ARCHITECTURES = ["llama", "gpt2", "gemma3_text", "opt", "mixtral"]
ONE_TOKEN = (" no", " yes")
SEVERAL = (" a very long choice", " no", " yes indeed")
STEPS = {"gpt2": (1e-5, 1e-6), "opt": (1e-5, 1e-6)}
"""(step, tolerance) by architecture; the others norm in float32 whatever they are in, which leaves no more than this"""
COARSE = (2e-2, 1e-2)


def exact(name: str, device: str = "cpu") -> Subject:
    made = subject(name)
    made.module.to(device, torch.float64)
    return made


def asked(
    model: Subject, choices: tuple[str, ...], count: int = 5
) -> tuple[Prompt, list[Row], list[int], list[Question]]:
    """A prompt with a demonstration, rows of different lengths, the instruction's tokens and the questions."""
    rows = [
        Row(t, {"text": t}, choices, i % len(choices)) for i in range(count) for t in [" ".join(WORDS[i : 3 * i + 2])]
    ]
    prompt = Prompt("p", TEMPLATE, INSTRUCTION, (rows[0],))
    width = len(choices)
    sequences = Scorer(model).sequences(prompt, rows, width)
    questions = [
        Question(tuple(s for s in sequences if s.targets[0][0] // width == i), i * width, width, row.gold)
        for i, row in enumerate(rows)
    ]
    return prompt, rows, model.tokenizer(INSTRUCTION).input_ids, questions


def direction(lead: list[int], everything_VD: torch.Tensor) -> torch.Tensor:
    """A random change of the one-hot codes [N, V], of length 1 where it arrives in the model."""
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(len(lead), len(everything_VD), dtype=torch.float64, generator=generator)
    return change / (change @ everything_VD).norm()


def virtual(model: Subject, form: Form | None) -> Soft | None:
    """Some that leave mixtral's routers far enough from a tie."""
    return soft_prompts.beginning(form, model, [11, 200]) if form else None


@pytest.mark.parametrize("form", [None, "soft", "prefix"])
@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one token", "several"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tasks_gradient_is_that_of_finite_differences(
    name: str, choices: tuple[str, ...], form: Form | None
) -> None:
    model = exact(name)
    _, _, lead, questions = asked(model, choices)
    begun = gradient.beginning(model, virtual(model, form))
    offsets = torch.linspace(-0.5, 0.3, len(choices), dtype=torch.float64)
    found = gradient.task_gradient(model, lead, questions, offsets, virtual(model, form))
    everything = gradient.embedded(model, range(found.shape[1]))
    change = direction(lead, everything)
    step, tolerance = STEPS.get(name, COARSE)

    def loss(step: float) -> float:
        lead_ND = gradient.embedded(model, lead) + step * change @ everything
        with torch.no_grad():
            return float(gradient.losses(model, lead_ND, questions, offsets, begun).mean())

    expected = (loss(step) - loss(-step)) / (2 * step)
    assert float((found * change).sum()) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("form", [None, "soft", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_surprisals_gradient_is_that_of_finite_differences(name: str, form: Form | None) -> None:
    model = exact(name)
    lead: list[int] = model.tokenizer(INSTRUCTION).input_ids
    found = gradient.surprise_gradient(model, lead, virtual(model, form))
    begun = gradient.beginning(model, virtual(model, form))
    size = found.shape[1]
    everything = gradient.embedded(model, range(size))
    change = direction(lead, everything)
    step, tolerance = STEPS.get(name, COARSE)
    one_hot = torch.nn.functional.one_hot(torch.tensor(lead), size).double()

    def loss(step: float) -> float:
        relaxed_NV = one_hot + step * change
        with torch.no_grad():
            log_probs_NV = gradient.predicted(model, relaxed_NV @ everything, opening(model, lead), begun)
        return float(-(relaxed_NV * log_probs_NV).sum() / len(lead))

    expected = (loss(step) - loss(-step)) / (2 * step)
    assert float((found * change).sum()) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one token", "several"])
@pytest.mark.parametrize("form", [None, "soft", "prefix"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["llama", "gemma3_text"])  # the latter's windows are shorter than the texts
def test_the_loss_is_what_the_scorer_says(name: str, device: str, form: Form | None, choices: tuple[str, ...]) -> None:
    model = exact(name, device)
    prompt, rows, lead, questions = asked(model, choices)
    prompt = replace(prompt, soft=virtual(model, form))
    offsets = torch.linspace(-0.5, 0.3, len(choices), dtype=torch.float64)
    scores = Scorer(model).score(prompt, rows)
    expected = -(scores.log_softmax(1) - offsets).log_softmax(1)[range(len(rows)), [row.gold for row in rows]]
    begun = gradient.beginning(model, prompt.soft)
    found = gradient.losses(model, gradient.embedded(model, lead), questions, offsets, begun)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)  # the scorer rounds to float32


def test_small_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact("llama")
    _, _, lead, questions = asked(model, SEVERAL)
    offsets = torch.zeros(3, dtype=torch.float64)
    whole = gradient.task_gradient(model, lead, questions, offsets)
    monkeypatch.setattr(gradient.Bounds, "learning", lambda model: gradient.Bounds(tokens=1))
    monkeypatch.setattr(gradient, "CHUNK", 100)
    assert [len(batch) for batch in gradient.batches(questions, gradient.Bounds(tokens=1))] == [1] * len(questions)
    torch.testing.assert_close(gradient.task_gradient(model, lead, questions, offsets), whole)


def test_batches_count_the_padding_and_the_virtual_tokens() -> None:
    long, short = Question((sequence(90),), 0, 1, 0), Question((sequence(10), sequence(12)), 0, 2, 0)
    sizes = lambda most, virtual: [len(b) for b in gradient.batches([short, short, long, short], most, virtual)]  # noqa: E731
    assert sizes(gradient.Bounds(500, 10**6), 0) == [3, 1]
    assert sizes(gradient.Bounds(100, 10**6), 0) == [2, 1, 1]
    assert sizes(gradient.Bounds(10**6, 560), 20) == [3, 1]
    assert sizes(gradient.Bounds(10**6, 100), 20) == [1, 1, 1, 1]


def sequence(tokens: int) -> Sequence_:
    return Sequence_((1,) * tokens, ((0, (2,)),))


def test_where_memory_runs_out_halves_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact("llama")
    _, _, lead, questions = asked(model, SEVERAL)
    offsets, losses = torch.zeros(3, dtype=torch.float64), gradient.losses
    whole = gradient.task_gradient(model, lead, questions, offsets)

    def scarce(*given: Any) -> torch.Tensor:
        if len(given[2]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(*given)

    monkeypatch.setattr(gradient, "losses", scarce)
    torch.testing.assert_close(gradient.task_gradient(model, lead, questions, offsets), whole)


def test_a_token_that_lowers_the_loss_most_is_found_by_trying_all() -> None:
    """On a model whose loss is nearly linear in the embeddings the first-order choice is the true one, or close to it."""
    model = exact("llama")
    prompt, rows, lead, questions = asked(model, ONE_TOKEN)
    offsets = torch.zeros(2, dtype=torch.float64)
    grad = gradient.task_gradient(model, lead, questions, offsets)
    at, size, begun = 3, grad.shape[1], gradient.beginning(model, None)
    true = torch.stack([
        gradient.losses(
            model, gradient.embedded(model, [*lead[:at], new, *lead[at + 1 :]]), questions, offsets, begun
        ).mean()
        for new in range(size)
    ])  # fmt: skip
    order = (-grad[at]).argsort(descending=True)
    middle = float(true.median())
    assert float(true[order[: size // 8]].mean()) < middle < float(true[order[-size // 8 :]].mean())
