"""Laws of integer grids over random shapes, groups and formats."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.quantization.grid import Codes, Format, Grid, fitted, rounded_up, span

FORMATS = st.builds(
    Format, bits=st.sampled_from([2, 3, 4, 8]), group=st.sampled_from([0, 4, 8, 32]), symmetric=st.booleans()
)
KINDS = {
    "normal": lambda x: x,
    "positive": lambda x: x.abs() + 1,
    "negative": lambda x: -x.abs() - 1,
    "tiny": lambda x: 1e-12 * x,
    "zero": lambda x: 0 * x,
    "sparse": lambda x: x * (x > 0),
    "wild": lambda x: x * (8 * x).exp(),
}


@st.composite
def matrices(draw: st.DrawFn) -> torch.Tensor:
    rows, groups, seed = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(0, 2**31))
    weight = torch.randn(rows, 32 * groups, generator=torch.Generator().manual_seed(seed))
    return KINDS[draw(st.sampled_from(sorted(KINDS)))](weight)


def step_sizes(grid: Grid, weight: torch.Tensor) -> torch.Tensor:
    return grid.scale_OG.repeat_interleave(weight.shape[1] // grid.scale_OG.shape[1], dim=1)


@given(matrices(), FORMATS)
def test_the_nearest_code_is_off_by_half_a_step_at_most(weight: torch.Tensor, form: Format) -> None:
    codes = Codes.nearest(weight, span(weight, form))
    assert int(codes.codes_OI.max()) <= form.top
    steps = step_sizes(codes.grid, weight)
    assert ((codes.values() - weight).abs() <= 0.5 * steps * (1 + 1e-5)).all()


@given(matrices(), FORMATS)
def test_no_code_is_nearer_than_the_one_chosen(weight: torch.Tensor, form: Format) -> None:
    grid = span(weight, form)
    chosen = (Codes.nearest(weight, grid).values() - weight).abs()
    for code in range(form.top + 1):
        other = grid.values(torch.full(weight.shape, code, dtype=torch.uint8))
        assert (chosen <= (other - weight).abs() + 1e-6 * step_sizes(grid, weight)).all()


@given(matrices(), FORMATS, st.integers(0, 2**31))
def test_what_codes_mean_has_these_codes(weight: torch.Tensor, form: Format, seed: int) -> None:
    grid = span(weight, form)
    codes = torch.randint(0, form.top + 1, weight.shape, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(grid.codes(grid.values(codes.to(torch.uint8))), codes.to(torch.uint8))


@given(matrices(), FORMATS)
def test_zero_is_on_every_grid(weight: torch.Tensor, form: Format) -> None:
    grids = [span(weight, form), fitted(weight, form, torch.ones(weight.shape[1]), (0.8, 0.5))]
    for grid in grids:
        assert (grid.values(grid.codes(torch.zeros_like(weight))) == 0).all()


@given(matrices(), FORMATS)
def test_scales_are_the_same_in_bfloat16_and_in_float32(weight: torch.Tensor, form: Format) -> None:
    scale = span(weight, form).scale_OG
    assert (scale > 0).all()
    assert torch.equal(scale.to(torch.bfloat16).float(), scale)


@given(matrices(), FORMATS, st.integers(0, 2**31))
def test_a_fitted_grid_is_no_worse_than_the_whole_span(weight: torch.Tensor, form: Format, seed: int) -> None:
    importance = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(seed))

    def error(grid: Grid) -> torch.Tensor:
        return ((Codes.nearest(weight, grid).values() - weight).square() * importance).sum()

    assert error(fitted(weight, form, importance, (0.9, 0.7))) <= error(span(weight, form)) * (1 + 1e-5)


def test_a_narrower_grid_serves_where_an_outlier_does_not_matter() -> None:
    weight = torch.tensor([[1.0, 0.3, -0.2, 0.1]])
    form, importance = Format(3, 0, True), torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert fitted(weight, form, importance, (0.3,)).scale_OG < span(weight, form).scale_OG


def test_numbers_are_rounded_up_to_the_next_of_bfloat16() -> None:
    given_ = torch.tensor([1.0, 1.0 + 2**-20, 1.9999, 3.0, 0.0, 1e-7])
    found = rounded_up(given_)
    assert found[:5].tolist() == [1.0, 1.0 + 2**-7, 2.0, 3.0, 1.0]
    assert (found >= given_).all()
    assert found[5] < 1e-7 * (1 + 2**-7)


def test_the_bits_of_a_weight() -> None:
    assert Format(4, 32, True).bits_a_weight(64) == 4.5
    assert Format(4, 32, False).bits_a_weight(64) == 4.625
    assert Format(8, 0, True).bits_a_weight(64) == 8.25


def test_groups_that_do_not_divide_are_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError) as error:
        Format(4, 128, True).check("layer", (8, 576))
    assert error.value.where == "layer"
    assert error.value.hint == "group = 64 or 32 or 0 (0: a scale for every row)"
    Format(4, 64, True).check("layer", (8, 576))
    Format(4, 0, True).check("layer", (8, 577))
