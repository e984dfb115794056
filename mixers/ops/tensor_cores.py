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

from mixers.ops.circular import by_channel

LONGEST_MONARCH = {torch.bfloat16: 8192, torch.float16: 8192, torch.float32: 4096}
"""The most tokens whose transform a multiprocessor holds."""


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
        values, scale = table(self.coefficients.float(), -self.highest, rows.dtype, True)
        return dcoefficients, product(values, scale, dy, -self.highest, -self.lowest)


@dataclass(frozen=True)
class Monarch:
    """Coefficients (D, lags) of lags from `lowest` on, and the transform of them that `kernels.monarch` reads."""

    coefficients: Tensor
    lowest: int
    values: Tensor
    scale: Tensor

    def multiply(self, rows: Tensor) -> Tensor:
        from mixers.ops.kernels.monarch import product

        return product(self.values, self.scale, rows)

    def gradients(
        self, dy: Tensor, rows: Tensor, of_coefficients: bool, of_x: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """By the coefficients and by x, wanted or not: one kernel gives both, which share a transform."""
        from mixers.ops.kernels.monarch import gradients

        return gradients(self.values, self.scale, dy, rows, self.lowest, self.lowest + self.coefficients.shape[1] - 1)


def require_tensor_cores(backend: str, x: Tensor) -> None:
    """Raise ValueError unless the kernels can run on x."""
    require_dtype(backend, x.dtype)
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"backend={backend!r} needs a GPU, and x is on {x.device}")
    if backend == "monarch":
        require_short(x.shape[1], x.dtype)


def require_dtype(backend: str, dtype: torch.dtype) -> None:
    """Raise ValueError for one that the kernels do not know."""
    if dtype not in LONGEST_MONARCH:
        raise ValueError(f"backend={backend!r} takes float32, float16 and bfloat16, not {dtype}")


def require_short(length: int, dtype: torch.dtype) -> None:
    """Raise ValueError for more tokens than a transform on chip takes."""
    if length > LONGEST_MONARCH[dtype]:
        raise ValueError(f"backend='monarch' takes up to {LONGEST_MONARCH[dtype]:,} tokens of {dtype}, not {length:,}")


def make_tiles(coefficients: Tensor, lowest: int, dtype: torch.dtype) -> Tiles:
    """Tiles of coefficients (D, lags) for inputs of `dtype`; the product is differentiable by the coefficients."""
    from mixers.ops.kernels.tiles import table

    require_dtype("tiles", dtype)
    return Tiles(coefficients, lowest, *table(coefficients.detach().float(), lowest, dtype, False))


def make_monarch(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype) -> Monarch:
    """As `make_tiles`, for up to `length` tokens."""
    require_dtype("monarch", dtype)
    require_short(length, dtype)
    from mixers.ops.kernels.monarch import spectrum

    return Monarch(coefficients, lowest, *spectrum(coefficients.detach().float(), lowest, length))


def kernel_product(kernel: Tiles | Monarch, x: Tensor) -> Tensor:
    """x (B, N, D) times the matrices of the kernel's coefficients, in the dtype and the strides of x."""
    return _KernelProduct.apply(kernel.coefficients, x, kernel)


class _KernelProduct(torch.autograd.Function):
    """Sums are taken in float32. A second derivative raises RuntimeError: the FFT has one."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, x: Tensor, kernel: Tiles | Monarch) -> Tensor:
        rows = by_channel(x).contiguous()
        ctx.kernel = kernel
        ctx.save_for_backward(coefficients, rows)
        return _in_strides_of(x, kernel.multiply(rows))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides its arguments
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        (dy,), (coefficients, rows) = gradients, ctx.saved_tensors
        dy_rows = by_channel(dy).to(rows.dtype).contiguous()
        dcoefficients, dx = ctx.kernel.gradients(dy_rows, rows, *ctx.needs_input_grad[:2])
        if dcoefficients is not None:
            dcoefficients = dcoefficients.to(coefficients.dtype)
        return dcoefficients, dx if dx is None else _in_strides_of(dy, dx), None


def _in_strides_of(x: Tensor, rows: Tensor) -> Tensor:
    """rows (D, B, N) as (B, N, D), stored as x is."""
    y = rows.permute(1, 2, 0)
    return y if by_channel(x).is_contiguous() else torch.empty_like(x).copy_(y)
