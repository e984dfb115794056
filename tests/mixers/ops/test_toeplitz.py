"""The Toeplitz product is the dense one, with its derivatives, and keeps the algebra of such matrices."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from mixers.ops.toeplitz import padded_size, prepare, toeplitz_matmul, toeplitz_matrix

EVERY_LENGTH = [*range(1, 71), 127, 128, 129, 251, 255, 256, 257, 509, 512, 1009]


@st.composite
def products(draw, longest: int = 70):
    """Coefficients, x and the form."""
    causal = draw(st.booleans())
    batch, length, dim = draw(st.integers(0, 3)), draw(st.integers(1, longest)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    lags = length if causal else 2 * length - 1
    coefficients = torch.randn(lags, dim, generator=generator, dtype=torch.float64)
    return coefficients, torch.randn(batch, length, dim, generator=generator, dtype=torch.float64), causal


def gradients(coefficients, x, causal, backend):
    """The product and its gradients under one weighting of the outputs."""
    inputs = coefficients.clone().requires_grad_(), x.clone().requires_grad_()
    y = toeplitz_matmul(*inputs, causal=causal, backend=backend)
    weight = torch.linspace(1, 2, y.shape[1], dtype=y.dtype)[:, None]
    return y, *torch.autograd.grad((y * weight).sum(), inputs)


@given(products())
def test_fft_is_dense_with_its_gradients(product):
    for fast, dense in zip(gradients(*product, "fft"), gradients(*product, "dense"), strict=True):
        torch.testing.assert_close(fast, dense)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", EVERY_LENGTH)
def test_every_length(length: int, causal: bool):
    torch.manual_seed(length)
    coefficients = torch.randn(length if causal else 2 * length - 1, 2, dtype=torch.float64)
    x = torch.randn(2, length, 2, dtype=torch.float64)
    for fast, dense in zip(
        gradients(coefficients, x, causal, "fft"), gradients(coefficients, x, causal, "dense"), strict=True
    ):
        torch.testing.assert_close(fast, dense, rtol=1e-10, atol=1e-10)


@given(products(longest=6))
def test_first_and_second_derivatives(product):
    coefficients, x, causal = product
    inputs = coefficients.requires_grad_(), x.requires_grad_()
    if x.numel():
        assert gradcheck(lambda t, x: toeplitz_matmul(t, x, causal=causal), inputs)
        assert gradgradcheck(lambda t, x: toeplitz_matmul(t, x, causal=causal), inputs)


@given(products())
def test_prepared_coefficients_give_the_same_with_gradients(product):
    coefficients, x, causal = product
    coefficients.requires_grad_()
    prepared = prepare(coefficients, x.shape[1], x.dtype)
    y = toeplitz_matmul(prepared, x, causal=causal)
    torch.testing.assert_close(y, toeplitz_matmul(coefficients, x, causal=causal))
    length, half = x.shape[1], (x.shape[1] + 1) // 2
    known = coefficients[:half] if causal else coefficients[length - half : length - 1 + half]
    shorter = toeplitz_matmul(prepared, x[:, :half], causal=causal)
    torch.testing.assert_close(shorter, toeplitz_matmul(known, x[:, :half], causal=causal, backend="dense"))
    weights = torch.linspace(1, 2, x.shape[1], dtype=x.dtype)[:, None]
    (through,) = torch.autograd.grad((y * weights).sum(), coefficients)
    torch.testing.assert_close(through, gradients(coefficients.detach(), x, causal, "dense")[1])


@given(products(), st.sampled_from(["channel first", "every other", "expanded"]))
def test_x_may_have_any_strides_and_y_has_the_same(product, storage):
    coefficients, x, causal = product
    if storage == "channel first":
        view = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        assert toeplitz_matmul(coefficients, view, causal=causal).permute(2, 0, 1).is_contiguous()
    elif storage == "every other":
        view = torch.stack([x, -x], dim=2)[:, :, 0]
    else:
        x = view = x[:, :1].expand_as(x)
    expected = gradients(coefficients, x.contiguous(), causal, "dense")
    for fast, dense in zip(gradients(coefficients, view, causal, "fft"), expected, strict=True):
        torch.testing.assert_close(fast, dense)


@given(products(), products())
def test_it_is_linear_in_both(first, second):
    coefficients, x, causal = first
    other = torch.linspace(-1, 1, coefficients.numel(), dtype=x.dtype).reshape(coefficients.shape)

    def product(coefficients, x):
        return toeplitz_matmul(coefficients, x, causal=causal)

    torch.testing.assert_close(product(3 * coefficients + other, x), 3 * product(coefficients, x) + product(other, x))
    torch.testing.assert_close(
        product(coefficients, 2 * x - x.flip(1)), 2 * product(coefficients, x) - product(coefficients, x.flip(1))
    )


@given(products())
def test_a_shift_of_the_input_shifts_the_output(product):
    coefficients, x, _ = product
    causal = coefficients[: x.shape[1]]
    moved = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
    y = toeplitz_matmul(causal, x, causal=True)
    expected = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], dim=1)
    torch.testing.assert_close(toeplitz_matmul(causal, moved, causal=True), expected)


@given(products())
def test_causal_matrices_multiply_as_their_coefficients_convolve(product):
    coefficients, x, _ = product
    one = coefficients[: x.shape[1]]
    other = one.flip(0).contiguous()
    both = toeplitz_matmul(one, other[None], causal=True)[0]  # the first N values of one * other
    twice = toeplitz_matmul(one, toeplitz_matmul(other, x, causal=True), causal=True)
    torch.testing.assert_close(toeplitz_matmul(both, x, causal=True), twice)


@given(products())
def test_the_unit_at_lag_zero_is_the_identity(product):
    coefficients, x, causal = product
    unit = torch.zeros_like(coefficients)
    unit[0 if causal else x.shape[1] - 1] = 1
    torch.testing.assert_close(toeplitz_matmul(unit, x, causal=causal), x)


@given(products())
def test_agrees_with_scipy(product):
    coefficients, x, causal = product
    length, dim = x.shape[1:]
    y = toeplitz_matmul(coefficients, x, causal=causal)
    for channel in range(dim):
        lags = coefficients[:, channel].numpy()
        column = lags if causal else lags[length - 1 :]
        row = np.r_[column[0], np.zeros(length - 1)] if causal else lags[:length][::-1]
        for sample in range(len(x)):
            expected = scipy.linalg.matmul_toeplitz((column, row), x[sample, :, channel].numpy())
            np.testing.assert_allclose(y[sample, :, channel].numpy(), expected, atol=1e-10)


@given(products())
def test_matrix_is_constant_along_diagonals(product):
    coefficients, _, causal = product
    matrix = toeplitz_matrix(coefficients, causal=causal)
    assert torch.equal(matrix[1:, 1:], matrix[:-1, :-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype: torch.dtype):
    coefficients, x = torch.randn(300, 2).to(dtype), torch.randn(1, 300, 2).to(dtype)
    y = toeplitz_matmul(coefficients, x, causal=True)
    assert y.dtype == dtype
    assert torch.equal(y, toeplitz_matmul(coefficients.float(), x.float(), causal=True).to(dtype))


def test_many_channels_are_the_same_as_few():
    """Channels are transformed a few at a time; the last group may be smaller."""
    length, channels = 4096, 70  # 64 channels of one sequence fill the cache
    coefficients, x = torch.randn(length, channels, dtype=torch.float64), torch.randn(1, length, channels).double()
    whole = gradients(coefficients, x, True, "fft")
    for channel in (0, 63, 64, 69):
        part = slice(channel, channel + 1)
        for many, one in zip(whole, gradients(coefficients[:, part], x[..., part], True, "fft"), strict=True):
            torch.testing.assert_close(many[..., part], one)


@given(st.integers(1, 2**17))
def test_the_padded_size_holds_twice_the_length_and_has_small_factors(length):
    size = padded_size(length)
    assert 2 * length <= size <= max(16, 2.5 * length)
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    assert size == 1


@pytest.mark.parametrize(
    ("coefficients", "x", "keywords", "message"),
    [
        ((4, 2), (1, 5, 2), {"causal": True}, r"must have shape \(5, 2\) \(causal\), not \(4, 2\)"),
        ((5, 2), (1, 5, 2), {"causal": False}, r"must have shape \(9, 2\) \(bidirectional\)"),
        ((5, 2), (5, 2), {"causal": True}, r"x must have shape \(B, N, D\) and real numbers, not \(5, 2\)"),
        (
            (5, 2),
            (1, 5, 2),
            {"causal": True, "backend": "ftt"},
            "unknown Toeplitz backend 'ftt': one of auto, dense, fft",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(coefficients, x, keywords, message):
    with pytest.raises(ValueError, match=message):
        toeplitz_matmul(torch.zeros(coefficients), torch.zeros(x), **keywords)


@pytest.mark.parametrize(
    ("x", "keywords", "message"),
    [
        (torch.zeros(1, 6, 2), {"causal": True}, r"prepared for x of shape \(B, N <= 5, 2\), not \(1, 6, 2\)"),
        (torch.zeros(1, 5, 3), {"causal": True}, r"prepared for x of shape \(B, N <= 5, 2\)"),
        (torch.zeros(1, 5, 2), {"causal": False}, "prepared with causal=True, not causal=False"),
        (torch.zeros(1, 5, 2), {"causal": True, "backend": "dense"}, "prepared for backend='fft', not 'dense'"),
        (torch.zeros(1, 5, 2).double(), {"causal": True}, "prepared in torch.float32, which is too narrow"),
    ],
)
def test_prepared_coefficients_refuse_what_they_were_not_made_for(x, keywords, message):
    with pytest.raises(ValueError, match=message):
        toeplitz_matmul(prepare(torch.ones(5, 2), 5, torch.float32), x, **keywords)


def test_prepare_refuses_another_number_of_lags():
    with pytest.raises(ValueError, match=r"must have shape \(5, D\) or \(9, D\), not \(6, 2\)"):
        prepare(torch.ones(6, 2), 5, torch.float32)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"real numbers, not .* of torch.int64"):
        toeplitz_matmul(torch.ones(5, 2), torch.ones(1, 5, 2, dtype=torch.long), causal=True)


@pytest.mark.parametrize("backend", ["dense", "fft"])
def test_autocast_changes_nothing(backend: str):
    coefficients, x = torch.randn(40, 3), torch.randn(2, 40, 3)
    exact = toeplitz_matmul(coefficients, x, causal=True, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(toeplitz_matmul(coefficients, x, causal=True, backend=backend), exact)


def test_coefficients_elsewhere_than_x_are_refused():
    coefficients, x = torch.ones(5, 2), torch.ones(1, 5, 2, device="meta")
    for known in (coefficients, prepare(coefficients, 5, x.dtype)):
        with pytest.raises(ValueError, match="must be on one device, not on cpu and meta"):
            toeplitz_matmul(known, x, causal=True)
