"""Correcting the label words' bias."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row
from engine.prompts.calibration import CONTENT_FREE, apply, content_free_scores, offsets
from engine.prompts.template import Prompt

KINDS = ["none", "contextual", "batch"]


@st.composite
def scored(draw: st.DrawFn) -> torch.Tensor:
    rows, choices, seed = draw(st.integers(1, 20)), draw(st.integers(2, 5)), draw(st.integers(0, 500))
    return 5 * torch.randn(rows, choices, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 20


@given(scored(), st.sampled_from(KINDS))
def test_calibrated_scores_are_log_probabilities(scores: torch.Tensor, kind: str) -> None:
    found = apply(scores, offsets(kind, scores, scores[:1]))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(scores), dtype=torch.float64))


@given(scored(), st.sampled_from(KINDS), st.floats(-50, 50))
def test_only_differences_between_choices_matter(scores: torch.Tensor, kind: str, shift: float) -> None:
    moved = scores + shift
    torch.testing.assert_close(
        apply(moved, offsets(kind, moved, moved[:1])), apply(scores, offsets(kind, scores, scores[:1]))
    )


@given(scored())
def test_none_changes_no_answer(scores: torch.Tensor) -> None:
    assert torch.equal(offsets("none", scores, None), torch.zeros(scores.shape[1], dtype=torch.float64))
    assert torch.equal(apply(scores, offsets("none", scores, None)).argmax(1), scores.argmax(1))


@given(scored())
def test_an_answer_that_ignores_the_input_becomes_uniform(scores: torch.Tensor) -> None:
    uniform = torch.full((1, scores.shape[1]), 1 / scores.shape[1], dtype=torch.float64)
    constant = scores[:1].repeat(7, 1)
    torch.testing.assert_close(apply(constant, offsets("batch", constant, None))[:1].exp(), uniform)
    torch.testing.assert_close(apply(scores[:1], offsets("contextual", scores, scores[:1])).exp(), uniform)


def test_batch_offsets_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.7, 0.3]], dtype=torch.float64)
    found = offsets("batch", probabilities.log() - 7, None)
    torch.testing.assert_close(found.exp(), torch.tensor([0.8, 0.2], dtype=torch.float64))
    calibrated = apply(probabilities.log() - 7, found).exp()
    torch.testing.assert_close(calibrated[1], torch.tensor([0.875, 1.5], dtype=torch.float64) / 2.375)
    assert calibrated.argmax(1).tolist() == [0, 1]


def test_content_free_inputs_fill_every_field() -> None:
    asked: list[Any] = []

    class Fake:
        def score(self, prompt: Prompt, rows: list[Row]) -> torch.Tensor:
            asked.extend(prompt.fill(row) for row in rows)
            return torch.zeros(len(rows), 2)

    row = Row("a", {"text": "a", "title": "b"}, (" no", " yes"), 1)
    found = content_free_scores(Fake(), Prompt("p", "{title}: {text}?"), row)
    assert found.shape == (3, 2)
    assert asked == [f"{text}: {text}?" for text in CONTENT_FREE]


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_calibration_takes_a_bias_out(bias: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gold = torch.arange(400) % 2
    scores = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    scores[torch.arange(400), gold] += 2
    scores[:, 1] += bias
    fitted = offsets("batch", scores[:100], None)
    accuracy = (apply(scores[100:], fitted).argmax(1) == gold[100:]).double().mean()
    unbiased = (scores[100:] - torch.tensor([0.0, bias])).argmax(1) == gold[100:]
    assert accuracy > unbiased.double().mean() - 0.1
    assert bias == 0 or accuracy > (scores[100:].argmax(1) == gold[100:]).double().mean() + 0.1
