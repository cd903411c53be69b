"""Laws of every registered quantization method; a new file in engine/quantization/methods is tested here as it is."""

from __future__ import annotations

import itertools

import pytest
import torch
from fixtures.models import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from engine.matrices import Statistics
from engine.pruning.quadratic import energy
from engine.quantization import method as methods
from engine.quantization.grid import Codes, Format
from engine.quantization.method import Method, Settings
from engine.registry import METHODS

NAMES = METHODS.names()
FORMATS = [Format(*values) for values in itertools.product((3, 4, 8), (0, 8, 32), (True, False))]
SETTINGS = [Settings(act_order=order, clip=clip) for order, clip in itertools.product((True, False), (True, False))]
OUT, IN, TOKENS = 12, 192, 400  # wider than one block of a solver


def method(name: str) -> Method:
    found: Method = METHODS.load(name).METHOD
    return found


def layer(seed: int = 0, out: int = OUT, width: int = IN, zeros: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [out, width], some of them zero, and correlated inputs [TOKENS, width] of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TOKENS, width // 2, generator=generator) @ torch.randn(width // 2, width, generator=generator)
    x = (x + 0.3 * x.std() * torch.randn(x.shape, generator=generator)) * torch.randn(width, generator=generator).exp()
    w = torch.randn(out, width, generator=generator)
    return w * (torch.rand(out, width, generator=generator) >= zeros), x


def quantize(name: str, w: torch.Tensor, x: torch.Tensor, form: Format, settings: Settings | None = None) -> Codes:
    return method(name).apply(w, Statistics.of(x, want_gram=True), form, settings or Settings())


def error(w: torch.Tensor, codes: Codes, x: torch.Tensor) -> float:
    """tr((W - W')G(W - W')ᵀ)"""
    return energy(w - codes.values(), x.T @ x / len(x))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_of_the_format_and_zeros_stay(name: str, form: Format, settings: Settings) -> None:
    w, x = layer(zeros=0.5)
    before = w.clone()
    codes = quantize(name, w, x, form, settings)
    assert torch.equal(w, before), "the weight given is left alone"
    assert codes.codes_OI.shape == w.shape
    assert codes.codes_OI.dtype == torch.uint8
    assert int(codes.codes_OI.max()) <= form.top
    assert codes.grid.scale_OG.shape == (OUT, IN // form.width(IN))
    assert torch.isfinite(codes.values()).all()
    assert (codes.values()[w == 0] == 0).all()
    if form.symmetric:
        assert (codes.grid.zero_OG == 2 ** (form.bits - 1)).all()


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_codes(name: str, form: Format) -> None:
    w, x = layer()
    one, other = (quantize(name, w.clone(), x, form) for _ in range(2))
    assert torch.equal(one.codes_OI, other.codes_OI)
    assert torch.equal(one.grid.scale_OG, other.grid.scale_OG)


@pytest.mark.parametrize("name", NAMES)
def test_chunks_of_rows_are_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = layer()
    whole = quantize(name, w, x, FORMATS[0])
    monkeypatch.setattr(methods, "WORK", 5 * IN)
    parts = quantize(name, w, x, FORMATS[0])
    assert float((whole.codes_OI == parts.codes_OI).float().mean()) > 0.99  # a product of fewer rows rounds otherwise
    torch.testing.assert_close(whole.grid.scale_OG, parts.grid.scale_OG)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_a_method_works_where_the_weights_are(name: str, device: str) -> None:
    w, x = layer()
    assert quantize(name, w.to(device), x.to(device), FORMATS[0]).codes_OI.device.type == device


@pytest.mark.parametrize("dead", [0, 40])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_always_zero_do_no_harm(name: str, dead: int) -> None:
    w, x = layer()
    x[:, :dead] = 0
    assert torch.isfinite(quantize(name, w, x, Format(4, 32, False)).values()).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_matrix_that_met_nothing_is_rounded_to_the_nearest(name: str) -> None:
    w, _ = layer()
    nothing = Statistics.none(IN, True, w.device)
    found = method(name).apply(w, nothing, Format(4, 32, False), Settings(clip=False))
    steps = found.grid.scale_OG.repeat_interleave(32, dim=1)
    assert ((found.values() - w).abs() <= 0.5 * steps * (1 + 1e-5)).all()


@given(st.integers(0, 2**31), st.sampled_from([3, 4]), st.sampled_from([0, 4, 8]), st.booleans(), st.booleans())
def test_solving_is_no_worse_than_rounding(seed: int, bits: int, group: int, symmetric: bool, order: bool) -> None:
    """In the metric of the inputs, over tiny layers: of 64 rows together, as it goes greedily and a row may be unlucky."""
    w, x = layer(seed, out=64, width=16)
    form = Format(bits, group, symmetric)
    solved = quantize("gptq", w, x, form, Settings(act_order=order, clip=False))
    assert error(w, solved, x) <= error(w, quantize("rtn", w, x, form), x)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"rtn"}))
def test_a_method_that_knows_its_inputs_beats_rounding(name: str) -> None:
    for seed, form in itertools.product(range(4), [Format(3, 32, False), Format(4, 32, True), Format(4, 0, False)]):
        w, x = layer(seed)
        assert error(w, quantize(name, w, x, form), x) < error(w, quantize("rtn", w, x, form), x)


@pytest.mark.parametrize("name", NAMES)
def test_more_bits_are_nearer(name: str) -> None:
    w, x = layer()
    errors = [error(w, quantize(name, w, x, Format(bits, 32, False)), x) for bits in (3, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 1e-2 * errors[0]
