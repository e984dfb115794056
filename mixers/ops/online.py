"""The causal Toeplitz product token by token: a relaxed online convolution.

Van der Hoeven, 1997 ("Lazy multiplication of formal power series"); Oncescu et al., ICLR 2025 ("Flash Inference",
https://arxiv.org/abs/2410.12982).
Shapes: B batch, D channels, U size of a tile, a power of two.

After i tokens, the past is cut into blocks whose sizes are the binary digits of i, the largest first. When a block of
U tokens ends, its whole influence on the next U outputs is computed at once: one U x U tile of the matrix. Output i
then adds one row of each block's influence to t[0] x[i], and each pair of tokens has been in one tile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.contract import State
from mixers.ops.precision import wide
from mixers.ops.toeplitz import toeplitz_matmul

Lags = Callable[[int], Tensor]
"""n -> the coefficients (n, D) of lags 0 .. n-1."""

DENSE = 16
"""Up to this size, a tile is multiplied as a matrix."""


def start() -> State:
    """The state before the first token: the count of tokens, and (inputs, influence), (B, U, D) each, of each block."""
    return {"tokens": 0, "blocks": ()}


def advance(x: Tensor, state: State, lags: Lags) -> tuple[Tensor, State]:
    """One token: x (B, D) gives y (B, D), in O(log N) amortised reads a channel, and the state after it."""
    tokens, blocks = state["tokens"], state["blocks"]
    size = (tokens + 1) & -(tokens + 1)  # the lowest digit of the new count: the smaller blocks are carried into it
    larger = tuple(block for block in blocks if block[0].shape[1] > size)
    carried = [inputs for inputs, _ in blocks[len(larger) :]]
    inputs = torch.cat([*(part.to(x.dtype) for part in carried), x[:, None]], dim=1)
    coefficients = lags(2 * size)
    y = coefficients[0] * x
    for _, influence in blocks:
        y = y + influence[:, tokens % influence.shape[1]]
    blocks = (*larger, (inputs, _tile(coefficients, inputs)))
    return y.to(x.dtype), {"tokens": tokens + 1, "blocks": blocks}


def remember(x: Tensor, lags: Lags) -> State:
    """The state after the tokens x (B, N, D)."""
    blocks, end, length = [], 0, x.shape[1]
    for digit in reversed(range(length.bit_length())):
        if length >> digit & 1:
            size = 1 << digit
            inputs = x[:, end : end + size].clone()  # the caller may use the memory of x anew
            blocks.append((inputs, _tile(lags(2 * size), inputs)))
            end += size
    return {"tokens": length, "blocks": tuple(blocks)}


def _tile(coefficients: Tensor, inputs: Tensor) -> Tensor:
    """The influence (B, U, D) of a block on the U outputs after it: lag U + q - j from input j to output q."""
    size = inputs.shape[1]
    dtype = wide(coefficients, inputs)
    between = coefficients[1 : 2 * size].to(dtype)  # lags 1 .. 2U-1
    return toeplitz_matmul(between, inputs.to(dtype), causal=False, backend="dense" if size <= DENSE else "fft")


def truncated(coefficients: Callable[[int], Tensor], longest: int | None) -> Lags:
    """Lags that are zero from `longest` on, where the coefficients end."""

    def lags(count: int) -> Tensor:
        if longest is None or count <= longest:
            return coefficients(count)
        return F.pad(coefficients(longest), (0, 0, 0, count - longest))

    return lags
