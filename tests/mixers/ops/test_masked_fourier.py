"""The masked Fourier transform against its sums, written as loops."""

import cmath
import math

import pytest
import torch

from mixers.ops.masked_fourier import masked_transform


def transformed(x: torch.Tensor, sign: int) -> torch.Tensor:
    """x (N,): X_i = sum over j <= i of exp(sign 2 pi i j sqrt(-1) / N) x_j / sqrt(N)."""
    size = len(x)
    sums = [
        sum(cmath.exp(sign * 2j * math.pi * i * j / size) * x[j].item() for j in range(i + 1)) / math.sqrt(size)
        for i in range(size)
    ]
    return torch.tensor(sums, dtype=torch.complex128)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_it_is_the_masked_sum(length: int, conjugate: bool, dtype: torch.dtype):
    x = torch.randn(2, length, 3, dtype=dtype)
    got = masked_transform(x, conjugate=conjugate)
    for row in range(2):
        for channel in range(3):
            expected = transformed(x[row, :, channel], 1 if conjugate else -1)
            torch.testing.assert_close(got[row, :, channel], expected, rtol=0, atol=1e-12)


def test_no_tokens_give_none():
    assert masked_transform(torch.zeros(2, 0, 3)).shape == (2, 0, 3)


def test_float32_holds_long_sequences():
    """Whole turns are dropped in whole numbers before anything is rounded."""
    x = torch.randn(1, 5000, 2)
    narrow, wide = masked_transform(x), masked_transform(x.double())
    assert narrow.dtype == torch.complex64
    assert (narrow - wide).abs().max() < 1e-5 * wide.abs().max()


def test_narrow_numbers_are_transformed_in_float32():
    assert masked_transform(torch.randn(1, 5, 2).bfloat16()).dtype == torch.complex64
