"""The Toeplitz product by kernels for the tensor cores of a GPU, with its first derivatives.

Shapes: B batch, N length, D channels, lags lowest .. highest; rows are (D, B, N), contiguous.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixers.ops.capability import ROOMY, capability
from mixers.ops.circular import by_channel
from mixers.ops.monarch import Blocks, Monarch, make_blocks, transformed

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the kernels take."""


@dataclass(frozen=True)
class Tiles:
    """Coefficients (D, lags) of lags from `lowest` on, and the table of them that `kernels.tiles` reads."""

    coefficients: Tensor
    lowest: int
    values: Tensor
    scale: Tensor

    @property
    def highest(self) -> int:
        return self.lowest + self.coefficients.shape[1] - 1

    def multiply(self, rows: Tensor) -> Tensor:
        from mixers.ops.kernels.tiles import product

        return product(self.values, self.scale, rows, self.lowest, self.highest)

    def gradients(
        self, dy: Tensor, rows: Tensor, of_coefficients: bool, of_x: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """By the coefficients and by x, where wanted; the transposed matrix has t[-k] at lag k."""
        from mixers.ops.kernels.tiles import gradient, product, table

        dcoefficients = gradient(dy, rows, self.lowest, self.highest) if of_coefficients else None
        if not of_x:
            return dcoefficients, None
        values, scale = table(self.coefficients, -self.highest, rows.dtype, True)
        return dcoefficients, product(values, scale, dy, -self.highest, -self.lowest)


def require_tensor_cores(backend: str, x: Tensor) -> None:
    """Raise ValueError unless the kernels can run on x (B, N, D)."""
    require_dtype(backend, x.dtype)
    require_gpu(backend, "x", x)
    if backend == "monarch":
        require_monarch(x.shape[1], x.dtype, x.device)


def require_gpu(backend: str, name: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor elsewhere; triton's kernels may be interpreted."""
    if not tensor.is_cuda and (backend == "monarch" or os.environ.get("TRITON_INTERPRET") != "1"):
        raise ValueError(f"backend={backend!r} needs a GPU, not {name} on {tensor.device}")


def require_dtype(backend: str, dtype: torch.dtype) -> None:
    """Raise ValueError for one that the kernels do not know."""
    if dtype not in DTYPES:
        raise ValueError(f"backend={backend!r} takes float32, float16 and bfloat16, not {dtype}")


def require_monarch(length: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError for a GPU that lacks the kernels' instructions, for more tokens than BLOCKS transforms on chip
    take, and for float32 that must not be rounded."""
    major, minor = capability(device)
    if major < 8:
        raise ValueError(
            f"backend='monarch' needs a GPU of compute capability 8.0 or more, and {device} has {major}.{minor}"
        )
    longest = longest_monarch(device)
    if length > longest:
        raise ValueError(f"backend='monarch' takes up to {longest:,} tokens on {device}, not {length:,}")
    if dtype == torch.float32 and not rounds_float32():
        allow = "torch.set_float32_matmul_precision('high') allows it"
        raise ValueError(f"backend='monarch' rounds float32 to 11 bits, as TF32 does: {allow}; backend='fft' does not")


BLOCKS = 4
"""So many blocks of tokens at most: their products with one another are BLOCKS^2, and beyond fft takes less time."""


def longest_transform(device: torch.device) -> int:
    """The most tokens whose transform the chip holds: half of 32,768 where a block of threads has less than 192 KB."""
    return 32_768 if capability(device)[0] in ROOMY else 16_384


def longest_monarch(device: torch.device) -> int:
    """The most tokens of backend "monarch"."""
    return BLOCKS * longest_transform(device)


def rounds_float32() -> bool:
    """Whether torch may round the inputs of products of float32 numbers."""
    return torch.get_float32_matmul_precision() != "highest"


def make_tiles(coefficients: Tensor, lowest: int, dtype: torch.dtype) -> Tiles:
    """Tiles of coefficients (D, lags) of lags from `lowest` on, for inputs of `dtype`."""
    from mixers.ops.kernels.tiles import table

    require_dtype("tiles", dtype)
    coefficients = coefficients.detach().float()
    return Tiles(coefficients, lowest, *table(coefficients, lowest, dtype, False))


def make_monarch(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype) -> Monarch | Blocks:
    """As `make_tiles`, for up to `length` tokens."""
    require_dtype("monarch", dtype)
    require_gpu("monarch", "coefficients", coefficients)
    require_monarch(length, dtype, coefficients.device)
    coefficients, longest = coefficients.detach().float(), longest_transform(coefficients.device)
    if length > longest:
        return make_blocks(coefficients, lowest, length, dtype, longest)
    return transformed(coefficients, lowest, length, dtype)


def kernel_product(coefficients: Tensor, kernel: Tiles | Monarch | Blocks, x: Tensor) -> Tensor:
    """x (B, N, D) times the matrices of coefficients (D, lags) and the kernel made of them, in the dtype and the
    strides of x."""
    return _KernelProduct.apply(coefficients, x, kernel)


class _KernelProduct(torch.autograd.Function):
    """A second derivative raises RuntimeError: the FFT has one."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, x: Tensor, kernel: Tiles | Monarch | Blocks) -> Tensor:
        rows = by_channel(x).contiguous()
        ctx.kernel, ctx.dtype = kernel, coefficients.dtype
        ctx.save_for_backward(rows)
        return _in_strides_of(x, kernel.multiply(rows))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides its arguments
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        (dy,), (rows,) = gradients, ctx.saved_tensors
        dy_rows = by_channel(dy).to(rows.dtype).contiguous()
        dcoefficients, dx = ctx.kernel.gradients(dy_rows, rows, *ctx.needs_input_grad[:2])
        if dcoefficients is not None:
            dcoefficients = dcoefficients.to(ctx.dtype)
        return dcoefficients, dx if dx is None else _in_strides_of(dy, dx), None


def _in_strides_of(x: Tensor, rows: Tensor) -> Tensor:
    """rows (D, B, N) as (B, N, D), stored as x is."""
    y = rows.permute(1, 2, 0)
    return y if by_channel(x).is_contiguous() else torch.empty_like(x).copy_(y)
