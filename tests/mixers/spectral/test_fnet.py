"""FNet against products with the two Fourier matrices."""

import cmath
import math
from itertools import product

import numpy as np
import pytest
import torch

from mixers import build
from mixers.spectral.fnet import MaskedFourierMixer


def test_fnet_is_two_fourier_matrices():
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    tokens = np.exp(-2j * np.pi * np.outer(range(7), range(7)) / 7)
    channels = np.exp(-2j * np.pi * np.outer(range(6), range(6)) / 6)
    expected = np.einsum("ij,bjd,de->bie", tokens, x.numpy(), channels).real
    np.testing.assert_allclose(build("fnet", 6, causal=False)(x).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_fnet_masked_is_two_masked_fourier_matrices(length: int):
    """y_ie = Re sum over j <= i of w^(i j) sum over d <= e of v^(e d) x_jd, w over tokens turned the other way."""
    x, dim = torch.randn(2, length, 6, dtype=torch.float64), 6
    expected = torch.zeros_like(x)
    for i, e in product(range(length), range(dim)):
        for j, d in product(range(i + 1), range(e + 1)):
            turn = cmath.exp(2j * math.pi * (i * j / length - e * d / dim)) / math.sqrt(length * dim)
            expected[:, i, e] += turn.real * x[:, j, d]
    torch.testing.assert_close(MaskedFourierMixer(6)(x), expected)
