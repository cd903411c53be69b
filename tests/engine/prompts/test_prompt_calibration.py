"""Correcting the label words' bias."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.prompting import WORDS, at_work, toy
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row
from engine.errors import Cancelled, UsageError
from engine.prompts import kept, select
from engine.prompts.calibration import CONTENT_FREE, RANDOM_TEXTS, apply, fitted, meaningless, offsets
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

KINDS = ["none", "contextual", "domain", "batch"]


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
    row = Row("a", {"text": "a", "title": "b"}, (" no", " yes"), 1)
    found = meaningless("contextual", [row], 0)
    assert [Prompt("p", "{title}: {text}?").fill(r) for r in found] == [f"{text}: {text}?" for text in CONTENT_FREE]
    assert {row.choices for row in found} == {(" no", " yes")}


def test_random_texts_are_of_the_rows_words_and_as_long() -> None:
    rows = [
        Row("", {"text": "a a a b", "title": "x y", "note": ""}, (" no", " yes"), 1),
        Row("", {"text": "a a", "title": "z", "note": ""}, (" no", " yes"), 0),
    ]
    found = meaningless("domain", rows, 0)
    assert len(found) == RANDOM_TEXTS
    assert {len(row.fields["text"].split()) for row in found} == {3}
    assert {len(row.fields["title"].split()) for row in found} == {2}
    assert {row.fields["note"] for row in found} == {""}
    counts = Counter(word for row in found for word in row.fields["text"].split())
    assert counts.keys() == {"a", "b"}
    assert counts["a"] > 2 * counts["b"], "five of six words are a"
    assert {word for row in found for word in row.fields["title"].split()} == {"x", "y", "z"}


def test_random_texts_are_those_of_the_seed_and_of_no_answer() -> None:
    rows = toy().dev
    turned = [replace(row, gold=1 - row.gold) for row in rows]
    first = [row.fields for row in meaningless("domain", rows, 3)]
    assert first == [row.fields for row in meaningless("domain", turned, 3)]
    assert first != [row.fields for row in meaningless("domain", rows, 4)]
    assert meaningless("batch", rows, 3) == meaningless("none", rows, 3) == []


def test_the_domains_bias_is_the_mean_answer_to_the_random_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a planted scorer: the share of a word in a text is the log odds of the second choice."""

    def score(scorer: Scorer, prompt: Prompt, rows: list[Row], width: int | None = None) -> torch.Tensor:
        share = [row.fields["text"].split().count("a") / len(row.fields["text"].split()) for row in rows]
        return torch.tensor([[-7.0, -7.0 + value] for value in share], dtype=torch.float64)

    monkeypatch.setattr(Scorer, "score", score)
    scorer = Scorer.__new__(Scorer)
    inputs = meaningless("domain", toy().dev, 0)
    shares = torch.tensor([row.fields["text"].split().count("a") / len(row.fields["text"].split()) for row in inputs])
    second = torch.sigmoid(shares.double()).mean()
    found = fitted("domain", scorer, Prompt("p", "{text}"), torch.zeros(4, 2).double(), inputs)
    torch.testing.assert_close(found.exp(), torch.stack([1 - second, second]))
    assert "a" in WORDS


STEP = SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?", "No?"], budget=60, calibration="domain")


def test_a_domain_calibrated_race_that_was_stopped_ends_as_a_whole_one(tmp_path: Path) -> None:
    whole = at_work(tmp_path / "whole", STEP)
    summary = select.run(whole, STEP)
    offset = kept.read(whole.run.artifacts / "prompts").offsets
    assert summary["calibration"] == "domain"
    assert any(abs(value) > 0.01 for value in offset)
    checks = iter(range(10_000))
    broken = at_work(tmp_path / "broken", STEP)
    broken.should_stop = lambda: next(checks) >= 5
    with pytest.raises(Cancelled):
        select.run(broken, STEP)
    again = at_work(tmp_path / "broken", STEP)
    assert select.run(again, STEP) == summary
    assert kept.read(again.run.artifacts / "prompts").offsets == offset


@pytest.mark.parametrize("kind", ["contextual", "domain", "batch"])
def test_choices_of_a_rows_own_have_no_bias_to_correct(kind: str, tmp_path: Path) -> None:
    step = SelectPromptOptions.model_validate(STEP.model_dump() | {"calibration": kind})
    with pytest.raises(UsageError, match="calibration needs a task with fixed labels"):
        select.run(at_work(tmp_path / "run", step, task=replace(toy(), labels={})), step)


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
