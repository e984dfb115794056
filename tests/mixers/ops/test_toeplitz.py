"""The Toeplitz product is the dense one, with its gradients."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixers.ops.toeplitz import toeplitz_matmul, toeplitz_matrix


@st.composite
def products(draw):
    """Coefficients, x and the form."""
    causal = draw(st.booleans())
    batch, length, dim = draw(st.integers(0, 3)), draw(st.integers(1, 70)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    lags = length if causal else 2 * length - 1
    coefficients = torch.randn(lags, dim, generator=generator, dtype=torch.float64)
    return coefficients, torch.randn(batch, length, dim, generator=generator, dtype=torch.float64), causal


@given(products())
def test_fft_is_dense(product):
    coefficients, x, causal = product
    fast = toeplitz_matmul(coefficients, x, causal=causal, backend="fft")
    torch.testing.assert_close(fast, toeplitz_matmul(coefficients, x, causal=causal, backend="dense"))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [*range(1, 71), 127, 128, 129, 251])
def test_every_length(length: int, causal: bool):
    torch.manual_seed(length)
    coefficients = torch.randn(length if causal else 2 * length - 1, 2, dtype=torch.float64)
    x = torch.randn(2, length, 2, dtype=torch.float64)
    fast = toeplitz_matmul(coefficients, x, causal=causal, backend="fft")
    torch.testing.assert_close(fast, toeplitz_matmul(coefficients, x, causal=causal, backend="dense"))


@given(products())
def test_gradients_of_fft_are_those_of_dense(product):
    coefficients, x, causal = product
    gradients = []
    for backend in ("fft", "dense"):
        inputs = coefficients.clone().requires_grad_(), x.clone().requires_grad_()
        y = toeplitz_matmul(*inputs, causal=causal, backend=backend)
        gradients.append(torch.autograd.grad((y * torch.linspace(1, 2, y.shape[1])[:, None]).sum(), inputs))
    for fast, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, dense)


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


@pytest.mark.parametrize(
    ("coefficients", "x", "keywords", "message"),
    [
        ((4, 2), (1, 5, 2), {"causal": True}, r"must have shape \(5, 2\) \(causal\), not \(4, 2\)"),
        ((5, 2), (1, 5, 2), {"causal": False}, r"must have shape \(9, 2\) \(bidirectional\)"),
        ((5, 2), (5, 2), {"causal": True}, r"x must have shape \(B, N, D\)"),
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
