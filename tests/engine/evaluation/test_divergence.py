"""Divergence against its closed form, with all tokens and with the likely ones only."""

from __future__ import annotations

import math

import pytest
import torch
from fixtures.models import DEVICES

from engine.evaluation import divergence as subject
from engine.evaluation.divergence import Reference, kept


@pytest.mark.parametrize("device", DEVICES)
def test_two_coins(device: str) -> None:
    p, q = 0.8, 0.3
    dense = torch.tensor([[p, 1 - p]] * 5, device=device).log() + 7.0  # a constant on logits means nothing
    other = torch.tensor([[q, 1 - q]] * 5, device=device).log() - 3.0
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert subject.divergence(kept(dense, None), other) == pytest.approx(expected, rel=1e-3)


def test_one_logit_is_a_coin() -> None:
    dense, other = torch.tensor([[math.log(4)]]), torch.tensor([[0.0]])
    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert subject.divergence(kept(dense, None), other) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [None, 50, 1000])
def test_against_torch_over_many_tokens(count: int | None) -> None:
    """More tokens than one piece; the likely ones with the rest as one never exceed the whole."""
    p_TV, q_TV = torch.randn(300, 1000) * 3, torch.randn(300, 1000) * 3
    log_p, log_q = p_TV.double().log_softmax(-1), q_TV.double().log_softmax(-1)
    whole = float(torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum")) / 300
    found = subject.divergence(kept(p_TV, count), q_TV)
    if count == 50:
        ids = p_TV.topk(50).indices
        rest_p, rest_q = (1 - x.exp().gather(1, ids).sum(1) for x in (log_p, log_q))
        likely = (log_p.exp() * (log_p - log_q)).gather(1, ids).sum(1) + rest_p * (rest_p / rest_q).log()
        assert found == pytest.approx(float(likely.mean()), rel=1e-3)
        assert found < whole
    else:
        assert found == pytest.approx(whole, rel=2e-3)


@pytest.mark.parametrize("count", [None, 16])
def test_zero_for_the_same_and_never_below(count: int | None) -> None:
    logits = torch.randn(40, 200) * 4
    reference = Reference(count)
    reference.add(logits)
    assert 0 <= reference.divergence(0, logits) < 1e-4
    assert all(reference.divergence(0, logits + 0.01 * torch.randn_like(logits)) >= 0 for _ in range(5))


def test_memory_decides_how_much_is_kept() -> None:
    assert subject.likely(2048, 50_000) is None
    assert subject.likely(65_536, 150_000) == subject.LIKELY
    assert subject.likely(10**9, 300) == 300
