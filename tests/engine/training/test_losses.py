"""Losses in closed form, and in pieces as a whole: value and gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, kl_div

from engine.evaluation.divergence import kept
from engine.training import losses
from engine.training.losses import apart, distilled, entropy, hidden_distance, in_pieces, relative_entropy
from engine.training.options import DistillOptions


def logits(places: int, width: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(places, width, generator=torch.Generator().manual_seed(seed))


def how(**changes: Any) -> DistillOptions:
    return DistillOptions.model_validate({"use": "distill", **changes})


@given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 99))
def test_divergences_are_those_of_their_definitions(places: int, width: int, seed: int) -> None:
    student, teacher = logits(places, width, seed), logits(places, width, seed + 1)
    p, q = teacher.softmax(-1), student.softmax(-1)
    view = torch.log_softmax(teacher, -1)
    forward = kl_div(q.log(), p, reduction="sum")
    torch.testing.assert_close(apart(student, view, None, "forward"), forward, rtol=1e-4, atol=1e-5)
    reverse = kl_div(p.log(), q, reduction="sum")
    torch.testing.assert_close(apart(student, view, None, "reverse"), reverse, rtol=1e-4, atol=1e-5)
    m = (p + q) / 2
    middle = (kl_div(m.log(), p, reduction="sum") + kl_div(m.log(), q, reduction="sum")) / 2
    torch.testing.assert_close(apart(student, view, None, "jsd"), middle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_equal_answers_are_no_distance_apart(divergence: str) -> None:
    same = logits(5, 20, 0)
    view = kept(same, 6)
    assert float(apart(same, view.log_TK.float(), view.ids_TK, divergence)) == pytest.approx(0, abs=1e-3)
    assert float(apart(logits(5, 20, 3), view.log_TK, view.ids_TK, divergence)) > 0.1


@given(st.integers(1, 19), st.sampled_from(["forward", "reverse", "jsd"]), st.integers(0, 50))
def test_likely_tokens_and_the_rest_are_the_merged_distributions(top: int, divergence: str, seed: int) -> None:
    student, teacher = logits(4, 20, seed) / 3, logits(4, 20, seed + 1) / 3
    log, ids = torch.log_softmax(teacher, -1).topk(top)
    merged = []
    for one in (student, teacher):
        shares = one.softmax(-1).gather(1, ids)
        merged.append(torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1).log())
    wanted = apart(merged[0], torch.log_softmax(merged[1], -1), None, divergence)
    found = apart(student, log, ids, divergence)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_what_a_teacher_never_says_counts_nothing() -> None:
    p, q = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.3, 0.7]]).log().requires_grad_()
    found = relative_entropy(p, q)
    assert float(found.detach()) == pytest.approx(-torch.tensor(0.3).log())
    assert bool(torch.isfinite(torch.autograd.grad(found, q)[0]).all())


@pytest.mark.parametrize("top", [None, 5])
def test_the_loss_is_the_weighted_sum(top: int | None) -> None:
    student, teacher, targets = logits(6, 12, 1), logits(6, 12, 2), torch.arange(6)
    view = kept(teacher / 2, top)
    given_ = [view.log_TK] if view.ids_TK is None else [view.log_TK, view.ids_TK]
    found = distilled(student, targets, *given_, how=how(answers=0.3, imitation=0.7, temperature=2.0), vocabulary=12)
    soft = apart(student / 2, view.log_TK, view.ids_TK, "forward")
    torch.testing.assert_close(found, 0.3 * cross_entropy(student, targets, reduction="sum") + 0.7 * 4 * soft)


def test_padding_behind_the_vocabulary_is_not_compared() -> None:
    student, teacher, targets = logits(6, 12, 1), logits(6, 10, 2), torch.arange(6)
    view = kept(teacher, None)
    found = distilled(student, targets, view.log_TK, how=how(answers=0.0), vocabulary=10)
    torch.testing.assert_close(found, apart(student[:, :10], view.log_TK, None, "forward"))


@pytest.mark.parametrize("piece", [1, 4, 100])
def test_pieces_add_up_to_the_whole(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "PIECE", piece)
    student, view = logits(10, 12, 1).requires_grad_(), kept(logits(10, 12, 2), 5)
    targets = torch.arange(10)
    whole = partial(distilled, how=how(answers=1.0, divergence="jsd"), vocabulary=12)
    plain = whole(student, targets, view.log_TK, view.ids_TK)
    cut = in_pieces(whole, student, targets, view.log_TK, view.ids_TK)
    torch.testing.assert_close(cut, plain)
    one, other = torch.autograd.grad(cut, student)[0], torch.autograd.grad(plain, student)[0]
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(in_pieces(entropy, student, targets), cross_entropy(student, targets, reduction="sum"))


def test_states_are_compared_relative_to_the_teachers() -> None:
    a, b = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert float(hidden_distance([a, a], [a, 2 * a])) == pytest.approx(0.25)
    assert float(hidden_distance([b], [a])) == pytest.approx(1.0)
