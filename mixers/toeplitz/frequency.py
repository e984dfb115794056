"""FD-TNN: Toeplitz operators whose encoder gives the frequency response (Moreno, Mei and Walters, 2023, arXiv
2305.09028).

Shapes: N length, S size of the transform, a power of two of at least 2N, F = S / 2 + 1 frequencies, D channels.
"""

import math

import torch
from torch import Tensor, nn

from mixers.ops.encoder import Lags
from mixers.toeplitz.mixer import Bare, Gated, OperatorMixer
from mixers.toeplitz.operator import Operator
from mixers.toeplitz.rpe import RelativePositionEncoder


class FrequencyCoefficients(nn.Module):
    """t = the inverse transform of an MLP of the frequency, 0 .. pi, on a grid that gets finer as N grows.

    Causal: the MLP gives the real part, and the imaginary part is its Hilbert transform: the kernel is cut to lags >= 0
    and doubled but for lag 0. Bidirectional: it gives both parts. Smooth responses decay in time; there is no other
    decay. The authors' code multiplies by the response itself where this transforms the coefficients once more.
    """

    def __init__(self, dim: int, *, causal: bool, rpe_width: int, rpe_layers: int):
        super().__init__()
        self.causal = causal
        self.rpe = RelativePositionEncoder(dim if causal else 2 * dim, width=rpe_width, layers=rpe_layers)

    def forward(self, length: int) -> Tensor:
        """(N, D) for lags 0 .. N-1 when causal, (2N-1, D) for -(N-1) .. N-1 otherwise, in at least float32."""
        size = 2 ** (2 * length - 1).bit_length()
        frequencies = Lags(size // 2 + 1, step=2 * math.pi / size)
        response = self.rpe(frequencies, length)  # (F, D or 2 D)
        if self.causal:
            even = torch.fft.irfft(response, size, dim=0)[:length]  # t[-k] = t[k]
            return torch.cat([even[:1], 2 * even[1:]])
        real, imaginary = response.chunk(2, dim=1)
        ends = torch.zeros_like(imaginary[:1])  # a real kernel has none at either end
        imaginary = torch.cat([ends, imaginary[1:-1], ends])
        kernel = torch.fft.irfft(torch.complex(real, imaginary), size, dim=0)
        return torch.cat([kernel[size - length + 1 :], kernel[:length]])


class FrequencyToeplitzOperator(OperatorMixer):
    """y = T x with the coefficients of FrequencyCoefficients: the operator alone."""

    def __init__(self, dim: int, *, causal: bool, rpe_width: int = 64, rpe_layers: int = 3, backend: str = "auto"):
        coefficients = FrequencyCoefficients(dim, causal=causal, rpe_width=rpe_width, rpe_layers=rpe_layers)
        super().__init__(Bare(), Operator(coefficients, causal=causal, backend=backend))


class FrequencyGatedToeplitzUnit(OperatorMixer):
    """The gated unit of TNN around the operator of FrequencyCoefficients."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        expand: float = 3.0,
        rpe_width: int = 64,
        rpe_layers: int = 3,
        backend: str = "auto",
    ):
        gated = Gated(dim, expand=expand)
        coefficients = FrequencyCoefficients(gated.inner, causal=causal, rpe_width=rpe_width, rpe_layers=rpe_layers)
        super().__init__(gated, Operator(coefficients, causal=causal, backend=backend))
