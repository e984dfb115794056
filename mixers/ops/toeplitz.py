"""The Toeplitz product: y[i] = sum over j of t[i - j] x[j], channel by channel.

TNN (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749), section 3.2.
Shapes: B batch, N length, D channels; lags are i - j.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixers.ops.fourier import circular_product, spectrum
from mixers.ops.precision import wide, without_autocast

BACKENDS = ("dense", "fft")


@dataclass(frozen=True)
class Prepared:
    """Coefficients made ready for products: their spectrum (D, size / 2 + 1) over `size` lags."""

    spectrum: Tensor
    length: int  # the largest N
    causal: bool
    size: int


def toeplitz_matmul(coefficients: Tensor | Prepared, x: Tensor, *, causal: bool, backend: str = "auto") -> Tensor:
    """Multiply x (B, N, D) by one Toeplitz matrix a channel.

    coefficients: (N, D) for lags 0 .. N-1 when causal, (2N-1, D) for lags -(N-1) .. N-1 otherwise, or what `prepare`
    made of the coefficients of N or more tokens. Storage (D, B, N) of x is the fastest; y has the strides of x.
    backend: "dense", the definition in O(N^2), or "fft" in O(N log N) time and O(N) memory; "auto" takes the latter.
    Computes in at least float32, under autocast too, and returns x's dtype; by FFT, errors are relative to the largest
    value of the sequence. Raises ValueError on other shapes and dtypes, or an unknown backend.
    """
    if x.dim() != 3 or not x.is_floating_point():
        raise ValueError(f"x must have shape (B, N, D) and real numbers, not {tuple(x.shape)} of {x.dtype}")
    chosen = toeplitz_backend(backend)
    if isinstance(coefficients, Prepared):
        _check_prepared(coefficients, x, causal, chosen)
    else:
        _check_coefficients(coefficients, x, causal)
    if x.numel() == 0:
        return x * _any_row(coefficients).to(x.dtype)  # empty, and still a function of both
    if isinstance(coefficients, Tensor) and chosen == "dense":
        return _dense(coefficients, x, causal)
    if isinstance(coefficients, Tensor):
        coefficients = prepare(coefficients, x.shape[1], x.dtype)
    return circular_product(coefficients.spectrum, x, coefficients.size)


def prepare(coefficients: Tensor, n: int, dtype: torch.dtype) -> Prepared:
    """The part of the product that does not depend on x, for inputs of up to `n` tokens and of dtype `dtype`.

    coefficients: (n, D) for lags 0 .. n-1 of a causal product, (2n-1, D) for lags -(n-1) .. n-1. Differentiable.
    Raises ValueError on other shapes.
    """
    if n < 1 or coefficients.dim() != 2 or len(coefficients) not in (n, 2 * n - 1):
        raise ValueError(f"coefficients must have shape ({n}, D) or ({2 * n - 1}, D), not {tuple(coefficients.shape)}")
    size = padded_size(n)
    kernel = coefficients.to(wide(coefficients, torch.empty(0, dtype=dtype))).T  # (D, lags)
    causal = len(coefficients) == n
    if not causal:  # lag k stands at index k modulo size
        gap = kernel.new_zeros(kernel.shape[0], size - len(coefficients))
        kernel = torch.cat([kernel[:, n - 1 :], gap, kernel[:, : n - 1]], dim=1)
    return Prepared(spectrum(kernel, size), n, causal, size)


def padded_size(length: int) -> int:
    """The size of transform in which a product of `length` tokens does not wrap: even, 5-smooth, 2N to 2.5 N or 16."""
    unit = 2 ** max((length - 1).bit_length() - 4, 0)
    return 2 * unit * next(multiple for multiple in (8, 9, 10, 12, 15, 16) if multiple * unit >= length)


def toeplitz_backend(backend: str) -> str:
    """The name of the backend that `backend` stands for.

    Raises ValueError for one that does not exist.
    """
    chosen = "fft" if backend == "auto" else backend
    if chosen not in BACKENDS:
        raise ValueError(f"unknown Toeplitz backend {backend!r}: one of auto, {', '.join(BACKENDS)}")
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
    dtype = wide(coefficients, x)
    matrix = toeplitz_matrix(coefficients.to(dtype), causal=causal)
    with without_autocast(x):
        return torch.einsum("ijd,bjd->bid", matrix, x.to(dtype)).to(x.dtype)


def _check_coefficients(coefficients: Tensor, x: Tensor, causal: bool) -> None:
    length, channels = x.shape[1:]
    expected = (length if causal else max(2 * length - 1, 0), channels)
    if coefficients.shape != expected:
        form = "causal" if causal else "bidirectional"
        raise ValueError(f"coefficients must have shape {expected} ({form}), not {tuple(coefficients.shape)}")


def _check_prepared(prepared: Prepared, x: Tensor, causal: bool, backend: str) -> None:
    length, channels = x.shape[1:]
    if backend != "fft":
        raise ValueError(f"prepared coefficients are spectra: backend={backend!r} cannot use them, fft can")
    if prepared.causal != causal and prepared.length > 1:  # one lag is both forms
        raise ValueError(f"the coefficients were prepared with causal={prepared.causal}, not causal={causal}")
    if length > prepared.length or channels != len(prepared.spectrum):
        largest = f"(B, N <= {prepared.length}, {len(prepared.spectrum)})"
        raise ValueError(f"the coefficients were prepared for x of shape {largest}, not {tuple(x.shape)}")
    precision = prepared.spectrum.real.dtype
    if torch.promote_types(wide(x), precision) != precision:
        raise ValueError(f"the coefficients were prepared in {precision}, which is too narrow for x of {x.dtype}")


def _any_row(coefficients: Tensor | Prepared) -> Tensor:
    return coefficients.spectrum.real.sum(1) if isinstance(coefficients, Prepared) else coefficients.sum(0)
