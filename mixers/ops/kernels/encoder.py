# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (a jitted function has other arguments than its definition)
"""The inner layers of TNN's relative position encoder in one kernel, and their derivatives in another.

    h_0 = w k + b,   h_l = W_l a(h_{l-1}) + b_l,   a(h) = ReLU(h / (|h| / sqrt(P) + 1e-8));   the output is a(h_L).

A tile of lags goes through all layers on chip: separate operations would take longer to start than to run. In float32.
Shapes: M lags, P width (padded to a power of two, W, in the kernels), L layers, T tiles of lags.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

LAGS = 16
"""Lags a tile."""


@torch.library.custom_op("mixerzoo::encode_lags", mutates_args=())
def encode(lags: Tensor, first: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    """a(h_L), (M, P), and all h_l, (L + 1, M, P): from lags (M,), first (P,), weights (L, P, P), biases (L + 1, P)."""
    output, hidden = _empty(lags, first, weights, biases)
    count, width = output.shape
    with torch.cuda.device_of(lags):
        _encode[(triton.cdiv(count, LAGS),)](
            lags, first, weights, biases, output, hidden, count, width, len(weights),
            LAGS=LAGS, PADDED=max(16, triton.next_power_of_2(width)), num_warps=4,
        )  # fmt: skip
    return output, hidden


@encode.register_fake
def _empty(lags: Tensor, first: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    layers, width = biases.shape
    return lags.new_empty(len(lags), width), lags.new_empty(layers, len(lags), width)


@register_flop_formula(torch.ops.mixerzoo.encode_lags)
def _encode_operations(lags, first, weights, biases, **rest) -> int:
    layers, width, _ = weights
    return 2 * lags[0] * width * width * layers


@triton.jit
def _norm(hidden, width):
    """|h| / sqrt(P) + 1e-8, (M, 1)."""
    return tl.sqrt(tl.sum(hidden * hidden, axis=1, keep_dims=True) / width) + 1e-8


@triton.jit
def _encode(
    lags, first, weights, biases, output, hidden, count, width, layers,
    LAGS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    known, real = row < count, column < width
    inside = known[:, None] & real[None, :]
    place = row[:, None] * width + column[None, :]
    lag = tl.load(lags + row, mask=known, other=0.0)
    h = lag[:, None] * tl.load(first + column, mask=real, other=0.0)[None, :]
    h += tl.load(biases + column, mask=real, other=0.0)[None, :]
    tl.store(hidden + place, h, mask=inside)
    for layer in range(layers):
        a = tl.maximum(h / _norm(h, width), 0.0)
        square = layer * width * width + column[None, :] * width + column[:, None]  # transposed: [in, out]
        weight = tl.load(weights + square, mask=real[:, None] & real[None, :], other=0.0)
        bias = tl.load(biases + (layer + 1) * width + column, mask=real, other=0.0)
        h = tl.dot(a, weight, input_precision="tf32x3") + bias[None, :]
        tl.store(hidden + (layer + 1) * count * width + place, h, mask=inside)
    tl.store(output + place, tl.maximum(h / _norm(h, width), 0.0), mask=inside)


@torch.library.custom_op("mixerzoo::encode_lags_backward", mutates_args=())
def gradients(doutput: Tensor, lags: Tensor, weights: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by first, weights and biases."""
    layers, count, width = hidden.shape
    dhidden, activations = torch.empty_like(hidden), torch.empty_like(hidden[1:])
    with torch.cuda.device_of(lags):
        _gradients[(triton.cdiv(count, LAGS),)](
            doutput, weights, hidden, dhidden, activations, count, width, layers - 1,
            LAGS=LAGS, PADDED=max(16, triton.next_power_of_2(width)), num_warps=4,
        )  # fmt: skip
    return lags @ dhidden[0], dhidden[1:].mT @ activations, dhidden.sum(1)


@gradients.register_fake
def _empty_gradients(doutput: Tensor, lags: Tensor, weights: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    layers, _, width = hidden.shape
    return doutput.new_empty(width), torch.empty_like(weights), doutput.new_empty(layers, width)


@register_flop_formula(torch.ops.mixerzoo.encode_lags_backward)
def _gradients_operations(doutput, lags, weights, hidden, **rest) -> int:
    """Those of the kernel; the counter sees the products of weights itself."""
    return _encode_operations(lags, None, weights, None)


@triton.jit
def _gradients(
    doutput, weights, hidden, dhidden, activations, count, width, layers,
    LAGS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """The gradients by all h_l, and all a(h_l) but the last, for one tile."""
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    real = column < width
    inside = (row < count)[:, None] & real[None, :]
    place = row[:, None] * width + column[None, :]
    entries = column[:, None] * width + column[None, :]  # [out, in]
    square = real[:, None] & real[None, :]
    da = tl.load(doutput + place, mask=inside, other=0.0)
    h = tl.load(hidden + layers * count * width + place, mask=inside, other=0.0)
    for back in range(layers):
        layer = layers - back
        dh = _dhidden(da, h, width)
        tl.store(dhidden + layer * count * width + place, dh, mask=inside)
        weight = tl.load(weights + (layer - 1) * width * width + entries, mask=square, other=0.0)
        da = tl.dot(dh, weight, input_precision="tf32x3")
        below = (layer - 1) * count * width + place
        h = tl.load(hidden + below, mask=inside, other=0.0)
        tl.store(activations + below, tl.maximum(h / _norm(h, width), 0.0), mask=inside)
    tl.store(dhidden + place, _dhidden(da, h, width), mask=inside)


@triton.jit
def _dhidden(da, h, width):
    """The gradient by h, given that by a(h). With u = h / n and n = |h| / sqrt(P) + 1e-8,
    dh = (du - h (du . u) / (|h| sqrt(P))) / n."""
    norm = _norm(h, width)
    du = tl.where(h > 0, da, 0.0)
    length = tl.sqrt(tl.sum(h * h, axis=1, keep_dims=True) * width)  # |h| sqrt(P)
    along = tl.sum(du * h, axis=1, keep_dims=True) / norm / tl.where(length > 0, length, 1.0)
    return (du - h * along) / norm
