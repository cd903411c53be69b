"""Surprisals against one forward over the whole text, and their division over pieces."""

from __future__ import annotations

import math

import pytest
import torch
from fixtures.models import DEVICES, VOCABULARY, subject
from fixtures.prompting import INSTRUCTION
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts import surprise
from engine.prompts.soft import beginning
from engine.prompts.vocabulary import Vocabulary


@pytest.mark.parametrize("device", DEVICES)
def test_surprisals_are_those_of_a_forward(device: str) -> None:
    model = subject("llama")
    model.module.to(device)
    ids = [[5, 9, 300, 44], [7, 7, 7, 7]]
    inputs = torch.tensor([[0, *row] for row in ids], device=device)  # predicted from the beginning-of-text token
    logits = model.module(inputs).logits.log_softmax(-1)
    expected = [[-float(logits[b, t, ids[b][t]]) for t in range(4)] for b in range(2)]
    assert surprise.surprisals(model, ids).tolist() == [pytest.approx(row, rel=1e-5) for row in expected]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "opt"])
def test_virtual_tokens_stand_before_the_text(name: str) -> None:
    """Those that stand for real tokens surprise as these do; more texts than a batch have the same behind them."""
    model = subject(name)
    lead, ids = [11, 200, 31, 8], [[5, 9, 300, 44]] * (surprise.BATCH + 1)
    before = surprise.opening(model, ids[0])
    logits = model.module(torch.tensor([[*lead, *before, *ids[0]]])).logits[0].log_softmax(-1)
    expected = [-float(logits[len(lead) + len(before) - 1 + t, ids[0][t]]) for t in range(4)]
    found = surprise.surprisals(model, ids, beginning("soft", model, lead))
    assert found[0].tolist() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_a_special_beginning_surprises_nobody() -> None:
    model = subject("llama")
    with_, without = surprise.surprisals(model, [[0, 5, 9]]), surprise.surprisals(model, [[5, 9]])
    assert with_[0, 0] == 0
    torch.testing.assert_close(with_[:, 1:], without)


def test_a_model_that_knows_nothing_is_surprised_equally() -> None:
    model = subject("llama")
    for parameter in model.module.parameters():
        parameter.data.zero_()
    found = surprise.of_pieces(model, ["Read it,", " then say", " whether"])
    for value, tokens in found:
        assert value == pytest.approx(tokens * math.log(VOCABULARY), rel=1e-5)


@given(st.sets(st.integers(1, len(INSTRUCTION) - 1), max_size=6))
def test_pieces_share_out_the_whole(cuts: set[int]) -> None:
    model, ends = subject("llama"), [0, *sorted(cuts), len(INSTRUCTION)]
    pieces = [INSTRUCTION[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    found = surprise.of_pieces(model, pieces)
    ids = model.tokenizer(INSTRUCTION).input_ids
    assert sum(tokens for _, tokens in found) == len(ids)
    assert sum(value for value, _ in found) == pytest.approx(float(surprise.surprisals(model, [ids]).sum()), rel=1e-4)


def test_only_whole_words_take_the_place_of_words() -> None:
    model = subject("llama")
    vocabulary = Vocabulary(model, words=True)
    ids: list[int] = model.tokenizer("The class objects: yes").input_ids
    for at in range(len(ids)):
        found = vocabulary.replacements(ids, at).tolist()
        if at == 0:
            continue
        whole = vocabulary.pieces[ids[at]].strip().isalpha() and vocabulary.pieces[ids[at]][0] == " "
        followed = at + 1 < len(ids) and vocabulary.pieces[ids[at + 1]][:1].isalnum()
        assert bool(found) == (whole and not followed)
        assert all(vocabulary.pieces[i][0] == " " and vocabulary.pieces[i][1:].isalpha() for i in found)
        capital = vocabulary.pieces[ids[at]][1:2].isupper()
        assert all(vocabulary.pieces[i][1].isupper() == capital for i in found)
    free = Vocabulary(model, words=False)
    assert len(free.replacements(ids, 2)) == VOCABULARY - 1, "all but the special token"
    assert not len(free.replacements([0, *ids], 0)), "a special token stays"
