"""FNet against products with the two Fourier matrices."""

import numpy as np
import torch

from mixers import build


def test_fnet_is_two_fourier_matrices():
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    tokens = np.exp(-2j * np.pi * np.outer(range(7), range(7)) / 7)
    channels = np.exp(-2j * np.pi * np.outer(range(6), range(6)) / 6)
    expected = np.einsum("ij,bjd,de->bie", tokens, x.numpy(), channels).real
    np.testing.assert_allclose(build("fnet", 6, causal=False)(x).numpy(), expected, atol=1e-10)
