"""The discrete Fourier transform whose matrix is masked to be causal, as the TNN paper's code has it.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749. Shapes: B batch, N length, D channels.
"""

import torch
from torch import Tensor

from mixers.ops.precision import wide
from mixers.ops.toeplitz import padded_size


def masked_transform(x: Tensor, *, conjugate: bool = False) -> Tensor:
    """X_i = sum over j <= i of exp(-2 pi i j sqrt(-1) / N) x_j / sqrt(N): (B, N, D), complex, in at least float32.

    `conjugate` turns the sign of the exponent; it does not invert, since the masked matrices are no inverses. In
    O(N log N): i j = (i^2 + j^2 - (i - j)^2) / 2, so it is a causal convolution between two products (Bluestein, 1970).
    """
    length = x.shape[1]
    place = torch.arange(length, device=x.device)
    turns = (place.square() % (2 * length)).double() / (2 * length)  # i^2 / 2 of N in whole numbers: exact
    chirp = torch.polar(torch.ones_like(turns), (2 if conjugate else -2) * torch.pi * turns)
    chirp = chirp.to(torch.promote_types(wide(x.real), torch.complex64))[:, None]
    size = padded_size(max(length, 1))
    product = torch.fft.fft(chirp.conj(), size, dim=0) * torch.fft.fft(chirp * x, size, dim=1)
    return chirp * torch.fft.ifft(product, dim=1)[:, :length] / max(length, 1) ** 0.5
