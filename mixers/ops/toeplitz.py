"""The Toeplitz product: y[i] = sum over j of t[i - j] x[j], channel by channel.

TNN (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749), section 3.2.
Shapes: B batch, N length, D channels; lags are i - j.
"""

import torch
from torch import Tensor

from mixers.ops.precision import wide


def toeplitz_matmul(coefficients: Tensor, x: Tensor, *, causal: bool, backend: str = "auto") -> Tensor:
    """Multiply x (B, N, D) by one Toeplitz matrix a channel.

    coefficients: (N, D) for lags 0 .. N-1 when causal, (2N-1, D) for lags -(N-1) .. N-1 otherwise.
    backend: "dense", the definition in O(N^2), or "fft" in O(N log N); "auto" takes the latter.
    Computes in at least float32 and returns x's dtype. Raises ValueError on other shapes or an unknown backend.
    """
    if x.dim() != 3:
        raise ValueError(f"x must have shape (B, N, D), not {tuple(x.shape)}")
    length, channels = x.shape[1:]
    expected = (length if causal else max(2 * length - 1, 0), channels)
    if coefficients.shape != expected:
        form = "causal" if causal else "bidirectional"
        raise ValueError(f"coefficients must have shape {expected} ({form}), not {tuple(coefficients.shape)}")
    product = _BACKENDS[toeplitz_backend(backend)]
    if x.numel() == 0:
        return x * coefficients.sum(0).to(x.dtype)  # empty, and still a function of both
    dtype = wide(coefficients, x)
    return product(coefficients.to(dtype), x.to(dtype), causal).to(x.dtype)


def toeplitz_backend(backend: str) -> str:
    """The name of the backend that `backend` stands for.

    Raises ValueError for one that does not exist.
    """
    chosen = "fft" if backend == "auto" else backend
    if chosen not in _BACKENDS:
        raise ValueError(f"unknown Toeplitz backend {backend!r}: one of auto, {', '.join(_BACKENDS)}")
    return chosen


def toeplitz_matrix(coefficients: Tensor, *, causal: bool) -> Tensor:
    """The matrices (N, N, D) that `toeplitz_matmul` multiplies by: entry [i, j] is the coefficient of lag i - j."""
    length = coefficients.shape[0] if causal else (coefficients.shape[0] + 1) // 2
    position = torch.arange(length, device=coefficients.device)
    lag = position[:, None] - position  # (N, N)
    if not causal:
        return coefficients[lag + length - 1]
    return coefficients[lag.clamp_min(0)].masked_fill((lag < 0)[..., None], 0)


def _dense(coefficients: Tensor, x: Tensor, causal: bool) -> Tensor:
    return torch.einsum("ijd,bjd->bid", toeplitz_matrix(coefficients, causal=causal), x)


def _fft(coefficients: Tensor, x: Tensor, causal: bool) -> Tensor:
    length = x.shape[1]
    size = 2 * length  # at least 2N-1: the circular product does not wrap into the first N outputs
    kernel = coefficients.transpose(0, 1)  # (D, lags): transforms run along contiguous memory
    if not causal:  # lag k at index k modulo size
        past_and_present = kernel[:, length - 1 :]
        kernel = torch.cat([past_and_present, kernel.new_zeros(kernel.shape[0], 1), kernel[:, : length - 1]], dim=1)
    spectrum = torch.fft.rfft(x.transpose(1, 2).contiguous(), size) * torch.fft.rfft(kernel.contiguous(), size)
    return torch.fft.irfft(spectrum, size)[..., :length].transpose(1, 2)


_BACKENDS = {"dense": _dense, "fft": _fft}
