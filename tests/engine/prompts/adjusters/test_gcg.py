"""Gradient-guided swaps: each is one token, reads back as it is, and by default puts a word in a word's place."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from fixtures.prompting import planted, setting

from engine.errors import UsageError
from engine.prompts.adjusters import gcg
from engine.prompts.adjusting import Setting
from engine.prompts.gradient import Question, task_gradient
from engine.prompts.options import Form
from engine.prompts.soft import beginning
from engine.prompts.template import Prompt
from engine.prompts.vocabulary import Vocabulary

WORD = re.compile(r"[^\W\d_]+[,.:;!?]*")


def first_swaps(at: Setting) -> tuple[list[int], list[list[int]], list[Prompt]]:
    adjuster = gcg.adjust(at)
    (start,) = next(adjuster)
    asked = list(adjuster.send([planted(start)]))
    encode = at.subject.tokenizer
    return encode(start.instruction).input_ids, [encode(p.instruction).input_ids for p in asked], asked


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("calibration", ["none", "batch"])
def test_every_proposal_is_one_token_away_and_reads_back(words: bool, calibration: str) -> None:
    at = setting(1, method="gcg", words_only=words, calibration=calibration)
    before, found, asked = first_swaps(at)
    assert asked
    for ids, prompt in zip(found, asked, strict=True):
        assert len(ids) == len(before)
        assert sum(a != b for a, b in zip(ids, before, strict=True)) == 1
        assert prompt.instruction == prompt.instruction.strip()
        if words:
            assert all(WORD.fullmatch(word) for word in prompt.instruction.split())
            assert len(prompt.instruction.split()) == len(at.instruction().split())


def test_of_many_draws_the_steepest_descent_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one replacement a position and no weight on readability, the best proposal is the gradient's own."""
    monkeypatch.setattr(gcg, "TOP", 1)
    monkeypatch.setattr(gcg, "SAMPLES", 2000)
    monkeypatch.setattr(gcg, "ROWS", 12)  # all training rows, so that they are the same ones here
    at = setting(1, method="gcg", readability=0.0)
    prompt, vocabulary, rows = at.start, Vocabulary(at.subject, words=True), at.task.train
    lead = at.subject.tokenizer(prompt.instruction).input_ids
    sequences = at.scorer.sequences(prompt, rows, 2)
    questions = [Question((s,), 2 * i, 2, row.gold) for i, (s, row) in enumerate(zip(sequences, rows, strict=True))]
    grad = task_gradient(at.subject, lead, questions, torch.zeros(2))
    falls = {}
    for place in range(len(lead)):
        for new in vocabulary.replacements(lead, place).tolist():
            if new != lead[place]:
                falls[place, new] = float(grad[place, lead[place]] - grad[place, new])
    best = gcg.found(prompt, vocabulary, at)[0]
    top = sorted(falls.values(), reverse=True)
    assert best.gain == pytest.approx(falls[best.at, best.new], rel=1e-3)
    assert best.gain >= top[min(len(top) - 1, len(lead))] - 1e-6


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_virtual_tokens_count_for_the_swaps(form: Form) -> None:
    at = setting(1, method="gcg")
    ids = at.subject.tokenizer("a name is bound to objects").input_ids
    gains = []
    for soft in (None, beginning(form, at.subject, ids)):
        at.generator.seed(1)
        prompt = replace(at.start, soft=soft)
        found = gcg.found(prompt, Vocabulary(at.subject, words=True), at)
        gains.append({(s.at, s.new): s.gain for s in found})
    both = gains[0].keys() & gains[1].keys()
    assert both
    assert all(abs(gains[0][key] - gains[1][key]) > 1e-6 for key in both)


@pytest.mark.parametrize("kind", ["none", "batch"])
def test_rows_are_scored_only_where_answers_are_calibrated(kind: str) -> None:
    at = setting(1, method="gcg", calibration=kind)
    assert gcg.found(at.start, Vocabulary(at.subject, words=True), at)
    assert (at.scorer.computed > 0) == (kind == "batch")


def test_readability_prefers_what_the_model_would_write() -> None:
    at = setting(4, method="gcg", words_only=False)
    cost = {}
    for weight in (0.0, 100.0):
        changed = replace(at, options=at.options.model_copy(update={"readability": weight}))
        changed.generator.seed(4)
        _, found, _ = first_swaps(changed)
        cost[weight] = gcg.surprisals(at.subject, found).mean().item()
    assert cost[100.0] < cost[0.0]


def test_without_an_instruction_it_is_refused() -> None:
    at = setting(1, method="gcg", instruction="")
    with pytest.raises(UsageError, match="no instruction"):
        next(gcg.adjust(replace(at, task=replace(at.task, description=" "))))
