"""The projection onto a pattern: exact counts, the lowest go, ties by position."""

from __future__ import annotations

import itertools

import pytest
import torch
from fixtures.models import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.pruning.masks import Pattern, Scope, drop_lowest, keep_n_of_m

shapes = st.tuples(st.integers(1, 9), st.integers(1, 24))
sparsities = st.floats(0, 1, exclude_max=True)


@st.composite
def scores(draw: st.DrawFn, widths: st.SearchStrategy[int] = st.integers(1, 24)) -> torch.Tensor:  # noqa: B008
    """Few different values, so that ties are common."""
    rows, columns, seed = draw(st.integers(1, 9)), draw(widths), draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    if draw(st.booleans()):
        return torch.randint(0, 4, (rows, columns), generator=generator).float()
    return torch.rand(rows, columns, generator=generator)


@given(scores(), sparsities)
def test_a_share_of_the_layer_goes_exactly(score: torch.Tensor, sparsity: float) -> None:
    keep = Pattern(sparsity).keep(score)
    assert keep.dtype == torch.bool
    assert keep.shape == score.shape
    assert int((~keep).sum()) == round(sparsity * score.numel())
    if keep.any() and not keep.all():
        assert score[~keep].max() <= score[keep].min()


@given(scores(), sparsities)
def test_a_share_of_every_row_goes_exactly(score: torch.Tensor, sparsity: float) -> None:
    keep = Pattern(sparsity, scope="row").keep(score)
    assert ((~keep).sum(1) == round(sparsity * score.shape[1])).all()
    for row, kept in zip(score, keep, strict=True):
        if kept.any() and not kept.all():
            assert row[~kept].max() <= row[kept].min()


@given(st.integers(1, 8), st.integers(1, 6), st.data())
def test_n_of_every_m_stay(m: int, groups: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    score = data.draw(scores(st.just(m * groups)))
    keep = keep_n_of_m(score, n, m).reshape(-1, m)
    assert (keep.sum(1) == n).all()
    for group, kept in zip(score.reshape(-1, m), keep, strict=True):
        if not kept.all():
            assert group[~kept].max() <= group[kept].min()


@given(scores(), st.floats(0.01, 3))
def test_a_threshold_keeps_what_reaches_it(score: torch.Tensor, threshold: float) -> None:
    assert torch.equal(Pattern(0.5, threshold=threshold).keep(score), score >= threshold)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scope", ["layer", "row"])
def test_among_equal_scores_the_first_go(scope: Scope, device: str) -> None:
    equal = torch.ones(3, 8, device=device)
    keep = Pattern(0.5, scope=scope).keep(equal)
    expected = torch.zeros(3, 8, dtype=torch.bool)
    if scope == "row":
        expected[:, 4:] = True
    else:
        expected.view(-1)[12:] = True
    assert torch.equal(keep.cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_among_equal_scores_of_a_group_the_first_stay(device: str) -> None:
    keep = keep_n_of_m(torch.ones(2, 8, device=device), 2, 4).cpu()
    assert torch.equal(keep, torch.tensor([[True, True, False, False] * 2] * 2))


@given(scores(), st.integers(0, 24))
def test_dropping_more_drops_what_was_dropped_before(score: torch.Tensor, count: int) -> None:
    count = min(count, score.shape[1] - 1)
    assert (drop_lowest(score, count + 1) <= drop_lowest(score, count)).all()


@given(st.integers(0, 5), st.sampled_from([0.25, 0.5, 0.75]))
def test_the_score_kept_is_the_largest_of_all_masks(seed: int, sparsity: float) -> None:
    """Brute force on 4 x 6: no other mask with the counts keeps more."""
    score = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed))
    count = 6 - round(sparsity * 6)
    best = torch.tensor([max(sum(c) for c in itertools.combinations(row, count)) for row in score.tolist()])
    torch.testing.assert_close((score * Pattern(sparsity, scope="row").keep(score)).sum(1), best)
    two = torch.tensor([[max(sum(c) for c in itertools.combinations(g, 1)) for g in zip(r[::2], r[1::2], strict=True)]
                        for r in score.tolist()])  # fmt: skip
    torch.testing.assert_close((score * keep_n_of_m(score, 1, 2)).view(4, 3, 2).sum(2), two)


@given(st.integers(0, 100), sparsities)
def test_permuted_rows_give_permuted_masks(seed: int, sparsity: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(6, 8, generator=generator)  # no ties
    order = torch.randperm(6, generator=generator)
    for pattern in (Pattern(sparsity), Pattern(sparsity, scope="row"), Pattern(0.5, (2, 4))):
        assert torch.equal(pattern.keep(score[order]), pattern.keep(score)[order])


@given(st.integers(0, 50), st.integers(1, 8), st.integers(1, 8))
def test_a_width_that_m_does_not_divide_is_refused(width: int, n: int, m: int) -> None:
    pattern = Pattern(0.5, (n, m))
    if width % m == 0:
        pattern.check("layer", (3, width))
        return
    with pytest.raises(UsageError, match=f"{m} does not divide the width {width}") as caught:
        pattern.check("layer", (3, width))
    assert caught.value.where == "layer"
    assert caught.value.hint


def test_masks_are_the_same_on_every_run() -> None:
    score = torch.randint(0, 3, (64, 96)).float()
    for pattern in (Pattern(0.37), Pattern(0.37, scope="row"), Pattern(0.5, (4, 8))):
        assert torch.equal(pattern.keep(score), pattern.keep(score.clone()))


@given(scores(), sparsities, st.integers(1, 9), st.sampled_from(["layer", "row"]))
def test_the_counts_of_parts_add_up(score: torch.Tensor, sparsity: float, width: int, scope: Scope) -> None:
    pattern = Pattern(sparsity, scope=scope)
    parts = []
    for start in range(0, score.shape[1], width):
        part = score[:, start : start + width]
        parts.append(pattern.of_columns(len(score), start, start + part.shape[1]).keep(part))
    keep = torch.cat(parts, dim=1)
    whole = pattern.keep(score)
    assert int(keep.sum()) == int(whole.sum())
    if scope == "row":
        assert torch.equal(keep.sum(1), whole.sum(1))
