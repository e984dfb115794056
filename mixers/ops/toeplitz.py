"""The Toeplitz product: y[i] = sum over j of t[i - j] x[j], channel by channel.

TNN (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749), section 3.2.
Shapes: B batch, N length, D channels; lags are i - j.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.ops.fourier import circular_product, spectrum
from mixers.ops.monarch import Blocks, Monarch
from mixers.ops.precision import wide, without_autocast
from mixers.ops.tensor_cores import (
    DTYPES,
    Tiles,
    capability,
    kernel_product,
    longest_monarch,
    make_monarch,
    make_tiles,
    require_monarch,
    require_tensor_cores,
    rounds_float32,
)

BACKENDS = ("dense", "fft", "tiles", "monarch")

LONGEST_TILES = 320
"""Up to this N tiles of the matrix were seen to take less time than transforms, on an H200."""


@dataclass(frozen=True)
class Spectrum:
    """The transform (D, size / 2 + 1) of the coefficients over `size` lags."""

    values: Tensor
    size: int


@dataclass(frozen=True)
class Prepared:
    """Coefficients (D, lags) made ready for products by one backend."""

    coefficients: Tensor
    kernel: Spectrum | Tiles | Monarch | Blocks
    length: int  # the largest N
    causal: bool
    dtype: torch.dtype  # of x, where the backend takes no other

    @property
    def backend(self) -> str:
        return {Spectrum: "fft", Tiles: "tiles", Monarch: "monarch", Blocks: "monarch"}[type(self.kernel)]


def toeplitz_matmul(
    coefficients: Tensor | Prepared, x: Tensor, *, causal: bool, backend: str = "auto", silu: bool = False
) -> Tensor:
    """Multiply x (B, N, D), or SiLU(x), by one Toeplitz matrix a channel.

    coefficients: (N, D) for lags 0 .. N-1 when causal, (2N-1, D) for lags -(N-1) .. N-1 otherwise, or what `prepare`
    made of the coefficients of N or more tokens. Storage (D, B, N) of x is the fastest; y has the strides of x.
    backend: "dense", the definition in O(N^2); "fft" in O(N log N) time and O(N) memory; "tiles", the definition on
    tensor cores with sums in float32, in O(N^2) time and O(N) memory; "monarch", transforms on tensor cores, of numbers
    rounded to float16, in up to four blocks of 32,768 tokens (16,384 where a block of threads has less than 192 KB of
    shared memory), with SiLU on the way. The last two are for CUDA and have first derivatives only. "auto" takes what
    `toeplitz_backend` says, or what the coefficients were prepared for. Dense and fft compute in at least float32,
    under autocast too. By fft and monarch, errors are relative to the largest |x| of a sequence, earlier or later,
    times the sum of |t|: by monarch, up to some 1e-4 of it. Returns the dtype of x. Raises ValueError on other shapes
    and dtypes, and for a backend that cannot run.
    """
    if x.dim() != 3 or not x.is_floating_point():
        raise ValueError(f"x must have shape (B, N, D) and real numbers, not {tuple(x.shape)} of {x.dtype}")
    where = (coefficients.coefficients if isinstance(coefficients, Prepared) else coefficients).device
    if where != x.device:
        raise ValueError(f"coefficients and x must be on one device, not on {where} and {x.device}")
    if isinstance(coefficients, Prepared):
        _check_prepared(coefficients, x, causal, backend)
    else:
        _check_coefficients(coefficients, x, causal)
    if x.numel() == 0:
        return x * _any_row(coefficients).to(x.dtype)  # empty, and still a function of both
    if isinstance(coefficients, Tensor):
        chosen = toeplitz_backend(backend, x)
        if chosen == "dense":
            return _dense(coefficients, F.silu(x) if silu else x, causal)
        coefficients = prepare(coefficients, x.shape[1], x.dtype, backend=chosen)
    kernel = coefficients.kernel
    if isinstance(kernel, Monarch | Blocks):
        return kernel_product(coefficients.coefficients, replace(kernel, silu=silu), x)
    if silu:
        x = F.silu(x)
    if isinstance(kernel, Spectrum):
        return circular_product(kernel.values, x, kernel.size)
    return kernel_product(coefficients.coefficients, kernel, x)


def prepare(coefficients: Tensor, n: int, dtype: torch.dtype, *, backend: str = "fft") -> Prepared:
    """The part of the product that does not depend on x, for inputs of up to `n` tokens and of dtype `dtype`.

    coefficients: (n, D) for lags 0 .. n-1 of a causal product, (2n-1, D) for lags -(n-1) .. n-1. Differentiable.
    Raises ValueError on other shapes, or a backend that prepares nothing.
    """
    if n < 1 or coefficients.dim() != 2 or len(coefficients) not in (n, 2 * n - 1):
        raise ValueError(f"coefficients must have shape ({n}, D) or ({2 * n - 1}, D), not {tuple(coefficients.shape)}")
    if backend not in BACKENDS[1:]:
        raise ValueError(f"backend={backend!r} prepares nothing: {', '.join(BACKENDS[1:])} do")
    kernel = coefficients.to(wide(coefficients, torch.empty(0, dtype=dtype))).T  # (D, lags)
    causal = len(coefficients) == n
    lowest = 0 if causal else 1 - n
    if backend == "tiles":
        return Prepared(kernel, make_tiles(kernel, lowest, dtype), n, causal, dtype)
    if backend == "monarch":
        return Prepared(kernel, make_monarch(kernel, lowest, n, dtype), n, causal, dtype)
    size, ring = padded_size(n), kernel
    if not causal:  # lag k stands at index k modulo size
        gap = kernel.new_zeros(kernel.shape[0], size - len(coefficients))
        ring = torch.cat([kernel[:, n - 1 :], gap, kernel[:, : n - 1]], dim=1)
    return Prepared(kernel, Spectrum(spectrum(ring, size), size), n, causal, dtype)


def padded_size(length: int) -> int:
    """The size of transform in which a product of `length` tokens does not wrap: even, 5-smooth, 2N to 2.5 N or 16."""
    unit = 2 ** max((length - 1).bit_length() - 4, 0)
    return 2 * unit * next(multiple for multiple in (8, 9, 10, 12, 15, 16) if multiple * unit >= length)


def require_toeplitz_backend(backend: str) -> str:
    """The name of a backend, or "auto".

    Raises ValueError for one that does not exist.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"unknown Toeplitz backend {backend!r}: one of auto, {', '.join(BACKENDS)}")
    return backend


def toeplitz_backend(backend: str, x: Tensor) -> str:
    """The backend that `backend` stands for, given x (B, N, D).

    "auto" is, on a GPU with tensor cores, in bfloat16 and float16, and in float32 where TF32 is allowed by
    torch.set_float32_matmul_precision, tiles for N up to LONGEST_TILES and monarch for what it takes beyond; else fft.
    Raises ValueError for one that does not exist or cannot run.
    """
    if require_toeplitz_backend(backend) in ("tiles", "monarch"):
        require_tensor_cores(backend, x)
    if backend != "auto":
        return backend
    if not (x.is_cuda and _on_tensor_cores(x)):
        return "fft"
    if x.shape[1] <= LONGEST_TILES:
        return "tiles"
    return "monarch" if x.shape[1] <= longest_monarch(x.device) else "fft"


def _on_tensor_cores(x: Tensor) -> bool:
    """Whether products of x's numbers, which are on a GPU, run there."""
    rounds = x.dtype in DTYPES and (x.dtype != torch.float32 or rounds_float32())
    return rounds and capability(x.device) >= (8, 0)


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
    made_for = prepared.backend
    if require_toeplitz_backend(backend) not in ("auto", made_for):
        raise ValueError(f"the coefficients were prepared for backend='{made_for}', not {backend!r}")
    if prepared.causal != causal and prepared.length > 1:  # one lag is both forms
        raise ValueError(f"the coefficients were prepared with causal={prepared.causal}, not causal={causal}")
    known = len(prepared.kernel.values)
    if length > prepared.length or channels != known:
        largest = f"(B, N <= {prepared.length}, {known})"
        raise ValueError(f"the coefficients were prepared for x of shape {largest}, not {tuple(x.shape)}")
    precision = prepared.kernel.values.real.dtype
    if made_for != "fft" and x.dtype != prepared.dtype:
        raise ValueError(f"the coefficients were prepared for x of {prepared.dtype}, not {x.dtype}")
    if made_for == "monarch":
        require_monarch(length, x.dtype, x.device)
    if made_for == "fft" and torch.promote_types(wide(x), precision) != precision:
        raise ValueError(f"the coefficients were prepared in {precision}, which is too narrow for x of {x.dtype}")


def _any_row(coefficients: Tensor | Prepared) -> Tensor:
    return coefficients.sum(0) if isinstance(coefficients, Tensor) else coefficients.coefficients.sum(1)
