"""The Toeplitz product by the kernels of `mixers.ops.kernels.tiles`, with its first derivatives.

Shapes: B batch, N length, D channels, lags lowest .. highest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixers.ops.circular import by_channel


@dataclass(frozen=True)
class Table:
    """Coefficients (D, lags) of lags from `lowest` on, and what the kernel reads in their place."""

    coefficients: Tensor
    values: Tensor
    scale: Tensor
    lowest: int


def require_tiles(x: Tensor) -> None:
    """Raise ValueError unless the kernels can run on x."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"backend='tiles' takes float32, float16 and bfloat16, not {x.dtype}")
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"backend='tiles' needs a GPU, and x is on {x.device}")


def make_table(coefficients: Tensor, lowest: int, dtype: torch.dtype) -> Table:
    """The table of coefficients (D, lags) for inputs of `dtype`; the product is differentiable by the coefficients."""
    from mixers.ops.kernels.tiles import table

    values, scale = table(coefficients.detach().float(), lowest, dtype)
    return Table(coefficients, values, scale, lowest)


def tile_product(table: Table, x: Tensor) -> Tensor:
    """x (B, N, D) times the matrices whose coefficients the table holds, in the dtype and the strides of x."""
    return _TileProduct.apply(table.coefficients, x, table)


class _TileProduct(torch.autograd.Function):
    """Sums are taken in float32. A second derivative raises RuntimeError: the FFT has one."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, x: Tensor, table: Table) -> Tensor:
        rows = by_channel(x).contiguous()
        ctx.table = table
        ctx.save_for_backward(coefficients, rows)
        return _in_strides_of(x, _multiply(table, rows))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides its arguments
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        from mixers.ops.kernels.tiles import gradient

        (dy,), (coefficients, rows) = gradients, ctx.saved_tensors
        dy_rows = by_channel(dy).to(rows.dtype).contiguous()
        lowest, highest = ctx.table.lowest, ctx.table.lowest + coefficients.shape[1] - 1
        dcoefficients = dx = None
        if ctx.needs_input_grad[0]:
            dcoefficients = gradient(dy_rows, rows, lowest, highest).to(coefficients.dtype)
        if ctx.needs_input_grad[1]:  # the transposed matrix has t[-k] at lag k
            transposed = make_table(coefficients.flip(1), -highest, rows.dtype)
            dx = _in_strides_of(dy, _multiply(transposed, dy_rows))
        return dcoefficients, dx, None


def _multiply(table: Table, rows: Tensor) -> Tensor:
    """(D, B, N) -> (D, B, N)."""
    from mixers.ops.kernels.tiles import product

    return product(table.values, table.scale, rows, table.lowest, table.lowest + table.coefficients.shape[1] - 1)


def _in_strides_of(x: Tensor, rows: Tensor) -> Tensor:
    """rows (D, B, N) as (B, N, D), stored as x is."""
    y = rows.permute(1, 2, 0)
    return y if by_channel(x).is_contiguous() else torch.empty_like(x).copy_(y)
