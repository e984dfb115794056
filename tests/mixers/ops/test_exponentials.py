"""Sums of exponentials: the fast form is the formula, ETSC is exact, and the fit finds what is there."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixers.ops import exponentials
from mixers.ops.exponentials import exact_exponentials, exponential_state, exponential_sum, fit_exponentials


def formula(rate: Tensor, weight: Tensor, length: int) -> Tensor:
    """Re sum over s of weight_s exp(rate_s k), term by term."""
    lags = torch.arange(length, dtype=torch.float64)
    return torch.einsum("...ds,dsn->...nd", weight, (rate[..., None] * lags).exp()).real


def random_sum(dim: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    decay, turn = torch.rand(2, dim, size, generator=generator, dtype=torch.float64)
    weight = torch.randn(dim, size, generator=generator, dtype=torch.complex128)
    return torch.complex(-0.1 * decay, math.pi * turn), weight


def smooth(length: int, dim: int = 3) -> Tensor:
    """Coefficients (N, D) that no short sum gives exactly: decaying powers of the lag."""
    lags = torch.arange(length, dtype=torch.float64)[:, None]
    return 0.99**lags / (1 + lags) ** torch.linspace(0.5, 2, dim, dtype=torch.float64)


def errors(coefficients: Tensor, order: int) -> Tensor:
    """Relative errors (D,) of the fit at lags 1 .. N-1."""
    fitted = exponential_sum(*fit_exponentials(coefficients, order), len(coefficients))
    return (fitted - coefficients)[1:].norm(dim=0) / coefficients[1:].norm(dim=0)


@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 80), st.integers(0, 2**16))
def test_sum_is_the_formula(dim: int, size: int, length: int, seed: int):
    rate, weight = random_sum(dim, size, seed)
    both = torch.stack([weight, 2 * weight.conj()])
    torch.testing.assert_close(exponential_sum(rate, weight, length), formula(rate, weight, length))
    torch.testing.assert_close(exponential_sum(rate, both, length), formula(rate, both, length))


@pytest.mark.parametrize("length", [1, 2, 10])
def test_sum_has_the_gradients_of_the_formula(length: int):
    inputs = [part.requires_grad_() for part in random_sum(2, 3, seed=0)]
    assert torch.autograd.gradcheck(lambda rate, weight: exponential_sum(rate, weight, length), inputs)
    slope = torch.linspace(1, 2, length, dtype=torch.float64)[:, None]
    fast, direct = (torch.autograd.grad((f(*inputs, length) * slope).sum(), inputs) for f in (exponential_sum, formula))
    torch.testing.assert_close(fast, direct)


@pytest.mark.parametrize("length", [*range(40), 511, 512])
def test_etsc_is_exact_on_the_unit_circle_with_half_the_exponentials(length: int):
    torch.manual_seed(length)
    coefficients = torch.randn(length, 3, dtype=torch.float64)
    rate, weight = exact_exponentials(coefficients)
    assert rate.shape == weight.shape == (3, (length + 1) // 2)
    assert (rate.real == 0).all()
    assert (exponential_sum(rate, weight, length) - coefficients).norm() <= 1e-12 * coefficients.norm()


def test_etsc_goes_round_beyond_the_length():
    coefficients = torch.randn(7, 2, dtype=torch.float64)
    period = torch.cat([coefficients, -coefficients.sum(0, keepdim=True)])
    torch.testing.assert_close(exponential_sum(*exact_exponentials(coefficients), 24), period.repeat(3, 1))


def test_etsc_takes_the_decay_as_a_shift_of_the_rates():
    coefficients, decay = torch.randn(20, 2, dtype=torch.float64), torch.tensor([0.9, 0.99], dtype=torch.float64)
    rate, weight = exact_exponentials(coefficients)
    decayed = coefficients * decay ** torch.arange(20)[:, None]
    torch.testing.assert_close(exponential_sum(rate + decay.log()[:, None], weight, 20), decayed)


@pytest.mark.parametrize("order", [4, 6, 20])
@pytest.mark.parametrize(
    "poles",
    [
        [0.9j, 0.8 + 0.3j, -0.5 + 0.7j, 0.95 + 0.1j],  # eight modes in four slots
        [0.98, 0.7, 0.3, -0.6],
        [0.97, -0.8, 0.6 + 0.6j, 0.2 + 0.9j],
        [0.5],
    ],
)
def test_fit_finds_a_known_sum(poles: list[complex], order: int):
    known = torch.tensor(poles, dtype=torch.complex128).log().expand(2, -1)
    weight = torch.linspace(1, 2, 2 * len(poles), dtype=torch.complex128).reshape(2, -1) * (1 + 0.5j)
    coefficients = exponential_sum(known, weight, 100)
    rate, fitted = fit_exponentials(coefficients, order)
    assert rate.shape == fitted.shape == (2, order)
    torch.testing.assert_close(exponential_sum(rate, fitted, 1600)[1:], exponential_sum(known, weight, 1600)[1:])
    for channel in range(2):
        found = rate[channel][fitted[channel].abs() > 1e-8].exp()
        distance = (found[:, None] - known[0].exp()).abs()
        assert found.shape == (len(poles),)
        assert distance.min(0).values.max() < 1e-8


def test_error_falls_with_the_order_to_rounding():
    worst = [errors(smooth(256), order).max() for order in (1, 2, 4, 8, 16)]
    assert all(later < earlier / 4 for earlier, later in pairwise(worst))
    assert worst[-1] < 1e-9


def test_many_real_modes_fill_the_slots():
    _, weight = fit_exponentials(smooth(256), 6)
    assert (weight != 0).all()


def test_there_are_fewer_modes_than_half_the_lags_and_empty_slots_change_nothing():
    lags = torch.arange(50, dtype=torch.float64)[:, None]
    noise = 0.9**lags * KINDS["noise"](lags)
    rate, weight = fit_exponentials(noise, 40)
    real = (rate.imag == 0) | (rate.imag == math.pi)
    assert (torch.where(real, 1, 2) * (weight != 0)).sum() == 24
    full = fit_exponentials(noise, int((weight != 0).sum()))
    torch.testing.assert_close(exponential_sum(rate, weight, 50), exponential_sum(*full, 50))


def test_channels_do_not_depend_on_one_another_nor_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    coefficients = smooth(64, dim=5)
    coefficients[:, 2] = 0
    together = exponential_sum(*fit_exponentials(coefficients, 4), 64)
    alone = [exponential_sum(*fit_exponentials(coefficients[:, [channel]], 4), 64) for channel in range(5)]
    torch.testing.assert_close(torch.cat(alone, dim=1), together)
    sizes = []
    fit = exponentials._fit
    monkeypatch.setattr(exponentials, "_CHUNK", 2 * 32**2)
    monkeypatch.setattr(exponentials, "_fit", lambda values, *rest: sizes.append(len(values)) or fit(values, *rest))
    torch.testing.assert_close(exponential_sum(*fit_exponentials(coefficients, 4), 64), together)
    assert sizes == [2, 2, 1]


def test_fit_leaves_lag_zero_and_its_input_alone():
    coefficients = smooth(64).requires_grad_()
    other = coefficients.detach().clone()
    other[0] += 1
    rate, weight = fit_exponentials(coefficients, 4)
    assert not rate.requires_grad
    assert not weight.requires_grad
    for one, same in zip(fit_exponentials(other, 4), (rate, weight), strict=True):
        assert torch.equal(one, same)
    assert torch.equal(coefficients, smooth(64))


def test_float32_coefficients_are_fitted_in_float64():
    coefficients = smooth(128).float()
    rate, weight = fit_exponentials(coefficients, 16)
    assert rate.dtype == weight.dtype == torch.complex128
    assert errors(coefficients.double(), 16).max() < 1e-7
    assert torch.equal(rate, fit_exponentials(coefficients.double(), 16)[0])


KINDS = {
    "zero": lambda lags: torch.zeros_like(lags),
    "constant": lambda lags: torch.full_like(lags, 3),
    "alternating": lambda lags: (-1.0) ** lags,
    "growing": lambda lags: 1.05**lags,
    "impulse": lambda lags: (lags == 1).double(),
    "late impulse": lambda lags: (lags == 49).double(),
    "noise": lambda lags: torch.sin(100 * lags**2),
    "tiny": lambda lags: 1e-310 * torch.cos(lags),
    "huge": lambda lags: 1e100 * torch.cos(lags),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 7, 50])
def test_any_coefficients_give_finite_exponentials_inside_the_unit_circle(kind: str, length: int):
    coefficients = KINDS[kind](torch.arange(length, dtype=torch.float64))[:, None].repeat(1, 2)
    for order in (1, 2, 40):
        rate, weight = fit_exponentials(coefficients, order)
        assert rate.shape == weight.shape == (2, order)
        assert (rate.to(torch.complex64).exp().abs() < 1).all()  # in float32 too
        fitted = exponential_sum(rate, weight, 16 * length)[1:]
        assert fitted.isfinite().all()
        if length > 1:
            assert fitted.abs().max() <= 2 * coefficients[1:].abs().max()


@pytest.mark.parametrize("kind", ["zero", "constant", "alternating", "impulse"])
@pytest.mark.parametrize(("length", "tolerance"), [(2, 1e-12), (50, 2e-3)])
def test_simple_coefficients_are_near(kind: str, length: int, tolerance: float):
    coefficients = KINDS[kind](torch.arange(length, dtype=torch.float64))[:, None]
    fitted = exponential_sum(*fit_exponentials(coefficients, 3), length)
    torch.testing.assert_close(fitted[1:], coefficients[1:], rtol=0, atol=tolerance)


def test_no_channels_give_no_exponentials():
    rate, weight = fit_exponentials(torch.zeros(20, 0), 4)
    assert rate.shape == weight.shape == (0, 4)


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match="order=0 must be at least 1"):
        fit_exponentials(smooth(20), 0)


@pytest.mark.parametrize("length", [0, 1, 2, 7, 50])
def test_the_state_is_what_the_recurrence_holds(length: int):
    rate = torch.complex(-torch.rand(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64))
    x = torch.randn(2, length, 3, dtype=torch.float64)
    state = torch.zeros(2, 3, 4, dtype=rate.dtype)
    for token in x.unbind(1):
        state = rate.exp() * state + token[..., None]
    torch.testing.assert_close(exponential_state(rate, x), state)
