"""The Toeplitz product by transforms on tensor cores: of sequences that a chip holds, and of longer ones by blocks.

Shapes: B batch, N length, D channels, lags lowest .. highest, blocks of L tokens; rows are (D, B, N), contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Monarch:
    """The transform of coefficients of lags lowest .. highest, as `kernels.monarch` reads it; with `silu`, to multiply
    SiLU(x)."""

    lowest: int
    highest: int
    values: Tensor
    scale: Tensor
    silu: bool = False

    def multiply(self, rows: Tensor, *, wide: bool = False) -> Tensor:
        """y, in float32 where `wide`."""
        from mixers.ops.kernels.monarch import product

        return product(self.values, self.scale, rows, False, self.silu, wide)

    def gradients(
        self, dy: Tensor, rows: Tensor, of_coefficients: bool, of_x: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """By the coefficients and by x, where wanted."""
        dcoefficients = self.by_coefficients(dy, rows) if of_coefficients else None
        if not of_x:
            return dcoefficients, None
        dx = self.by_values(dy)
        return dcoefficients, torch.ops.aten.silu_backward(dx, rows) if self.silu else dx

    def by_coefficients(self, dy: Tensor, rows: Tensor) -> Tensor:
        """The gradient, in float32."""
        from mixers.ops.kernels.monarch import gradient

        return gradient(dy, rows, self.lowest, self.highest, self.silu)

    def by_values(self, dy: Tensor, *, wide: bool = False) -> Tensor:
        """The gradient by what the matrices multiply, in float32 where `wide`."""
        from mixers.ops.kernels.monarch import product

        return product(self.values, self.scale, dy, True, False, wide)


def transformed(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype) -> Monarch:
    """Of coefficients (D, lags) in float32 of lags from `lowest` on, for up to `length` tokens of `dtype`."""
    from mixers.ops.kernels.monarch import spectrum

    return Monarch(lowest, lowest + coefficients.shape[1] - 1, *spectrum(coefficients, lowest, length, dtype))


@dataclass(frozen=True)
class Blocks:
    """Block i of y is the sum over j of the product of block j of x and the coefficients of lags from (i - j - 1) L on,
    up to (i - j + 1) L: one Monarch for each i - j."""

    lowest: int
    highest: int
    length: int
    """L, of a block."""
    by_shift: tuple[tuple[int, Monarch], ...]
    silu: bool = False

    @property
    def values(self) -> Tensor:
        return self.by_shift[0][1].values

    def multiply(self, rows: Tensor) -> Tensor:
        x = self._split(rows)
        y = torch.zeros_like(x, dtype=torch.float32)
        for shift, monarch in self._within(x):
            target = _earlier(y, -shift)
            target += monarch.multiply(_as_rows(_earlier(x, shift)), wide=True).view_as(target)
        return self._joined(y, rows)

    def gradients(
        self, dy: Tensor, rows: Tensor, of_coefficients: bool, of_x: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """By the coefficients and by x, where wanted."""
        x, dy = self._split(rows), self._split(dy)
        return self._by_coefficients(dy, x) if of_coefficients else None, self._by_x(dy, rows) if of_x else None

    def _by_coefficients(self, dy: Tensor, x: Tensor) -> Tensor:
        dt = x.new_zeros(len(x), self.highest - self.lowest + 1, dtype=torch.float32)
        for shift, monarch in self._within(x):
            found = monarch.by_coefficients(_as_rows(_earlier(dy, -shift)), _as_rows(_earlier(x, shift)))
            first = shift * self.length + monarch.lowest - self.lowest
            dt[:, first : first + found.shape[1]] += found
        return dt

    def _by_x(self, dy: Tensor, rows: Tensor) -> Tensor:
        dx = torch.zeros_like(dy, dtype=torch.float32)
        for shift, monarch in self._within(dy):
            target = _earlier(dx, shift)
            target += monarch.by_values(_as_rows(_earlier(dy, -shift)), wide=True).view_as(target)
        by_values = self._joined(dx, rows)
        return torch.ops.aten.silu_backward(by_values, rows) if self.silu else by_values

    def _within(self, blocks: Tensor) -> Iterator[tuple[int, Monarch]]:
        """Those that blocks (D, B, blocks, L) have with one another."""
        for shift, monarch in self.by_shift:
            if abs(shift) < blocks.shape[2]:
                yield shift, replace(monarch, silu=self.silu)

    def _split(self, rows: Tensor) -> Tensor:
        """(D, B, N) as (D, B, blocks, L), with zeros at the end."""
        return F.pad(rows, (0, -rows.shape[2] % self.length)).unflatten(2, (-1, self.length))

    def _joined(self, blocks: Tensor, rows: Tensor) -> Tensor:
        """(D, B, blocks, L) in the shape and dtype of rows."""
        return blocks.flatten(2)[:, :, : rows.shape[2]].to(rows.dtype).contiguous()


def _earlier(blocks: Tensor, shift: int) -> Tensor:
    """Those (D, B, blocks, L) that have another `shift` blocks behind them, or -shift before them."""
    return blocks[:, :, max(-shift, 0) : blocks.shape[2] - max(shift, 0)]


def _as_rows(blocks: Tensor) -> Tensor:
    """(D, B, blocks, L) as (D, B blocks, L)."""
    return blocks.flatten(1, 2).contiguous()


def make_blocks(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype, longest: int) -> Blocks:
    """As `transformed`, in blocks of up to `longest` tokens."""
    count = -(-length // longest)
    block = -(-length // (8 * count)) * 8  # kernels read eight tokens at a time
    highest = lowest + coefficients.shape[1] - 1
    by_shift = []
    for shift in range(0 if lowest == 0 else 1 - count, count):
        first, end = max(shift * block - block + 1, lowest), min((shift + 1) * block, highest + 1)
        part = coefficients[:, first - lowest : end - lowest]
        by_shift.append((shift, transformed(part, first - shift * block, block, dtype)))
    return Blocks(lowest, highest, block, tuple(by_shift))
