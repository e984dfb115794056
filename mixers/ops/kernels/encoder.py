# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (a jitted function has other arguments than its definition)
"""TNN's relative position encoder with its decay in one kernel, and the derivatives in three.

    h_0 = w k / divisor + b,   h_l = W_l a(h_{l-1}) + b_l,   a(h) = ReLU(h / (|h| / sqrt(P) + 1e-8));
    the coefficients of lag k are (V a(h_L) + c) exp(|k| log_decay).

A tile of lags goes through all layers on chip: separate operations would take longer to start than to run. In float32.
Shapes: M lags, P width (padded to a power of two, W, in the kernels), L layers, D channels.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.capability import ROOMY, capability

CHANNELS, PROGRAMS = 128, 256
"""Channels a tile of `encode`, and how many programs it should have: each computes the inner layers for itself, so it
writes as many tiles as leaves a large GPU enough to do."""

SUMMED = 64
"""The lags that a program for the gradients of a layer takes at a time."""


@dataclass(frozen=True)
class Plan:
    """How large the programs are. Their memory on chip is what limits them: with room for it they read ahead."""

    lags: int
    """A tile: few where there are few, else most of a GPU would wait."""
    warps: int
    backward_channels: int
    last_channels: int
    stages: int


def plan(count: int, padded: int, roomy: bool) -> Plan:
    """For `count` lags and layers of `padded` width; a `roomy` GPU has 227 KB a program, another may have 99."""
    few = 16 if count < 4096 else 32
    if not roomy or padded > 64:
        return Plan(lags=few, warps=4, backward_channels=64, last_channels=64, stages=1)
    if count < 16_384:
        return Plan(lags=few, warps=4, backward_channels=64, last_channels=128, stages=3)
    return Plan(lags=128, warps=8, backward_channels=32, last_channels=128, stages=3)


def _plan(lags: Tensor, padded: int) -> Plan:
    return plan(len(lags), padded, lags.is_cuda and capability(lags.device)[0] in ROOMY)


def tiles_together(channels: int, lags_programs: int) -> int:
    """Tiles of channels that one program of `encode` writes."""
    tiles = triton.cdiv(channels, CHANNELS)
    parts = min(triton.cdiv(PROGRAMS, lags_programs), tiles)
    return triton.cdiv(tiles, parts)


def splits(count: int) -> int:
    """Parts into which the sums over all lags fall."""
    return min(triton.cdiv(count, 4 * SUMMED), 32)


@torch.library.custom_op("mixerzoo::encode_lags", mutates_args=())
def encode(
    lags: Tensor,
    divisor: float,
    log_decay: Tensor,
    first: Tensor,
    weights: Tensor,
    biases: Tensor,
    last: Tensor,
    last_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """The coefficients (D, M), and all h_l (L + 1, M, P).

    From lags (M,), log_decay (D,), first w (P,), weights W (L, P, P), biases b (L + 1, P), last V (D, P), last_bias c
    (D,), all contiguous.
    """
    coefficients, hidden = _empty(lags, divisor, log_decay, first, weights, biases, last, last_bias)
    channels, width = last.shape
    padded = _padded(width)
    chosen = _plan(lags, padded)
    programs = triton.cdiv(len(lags), chosen.lags)
    group = tiles_together(channels, programs)
    grid = (programs, triton.cdiv(channels, CHANNELS * group))
    with torch.cuda.device_of(lags):
        _encode[grid](
            lags, log_decay, first, weights, biases, last, last_bias, coefficients, hidden,
            len(lags), width, len(weights), channels, divisor,
            LAGS=chosen.lags, PADDED=padded, CHANNELS=CHANNELS, GROUP=group,
            num_warps=chosen.warps, num_stages=chosen.stages,
        )  # fmt: skip
    return coefficients, hidden


@encode.register_fake
def _empty(lags: Tensor, divisor: float, log_decay: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    _, _, biases, last, _ = parameters
    (layers, width), count = biases.shape, len(lags)
    return last.new_empty(len(last), count), last.new_empty(layers, count, width)


def _padded(width: int) -> int:
    return max(16, triton.next_power_of_2(width))


@register_flop_formula(torch.ops.mixerzoo.encode_lags)
def _encode_operations(lags, divisor, log_decay, first, weights, biases, last, last_bias, **rest) -> int:
    layers, width, _ = weights
    return 2 * lags[0] * width * (width * layers + last[0])


@triton.jit
def _norm(hidden, width):
    """|h| / sqrt(P) + 1e-8, (M, 1)."""
    return tl.sqrt(tl.sum(hidden * hidden, axis=1, keep_dims=True) / width) + 1e-8


@triton.jit
def _encode(
    lags, log_decay, first, weights, biases, last, last_bias, coefficients, hidden,
    count, width, layers, channels, divisor,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    known, real = row < count, column < width
    inside = known[:, None] & real[None, :] & (tl.program_id(1) == 0)  # stored once
    place = row[:, None] * width + column[None, :]
    lag = tl.load(lags + row, mask=known, other=0.0)
    h = (lag / divisor)[:, None] * tl.load(first + column, mask=real, other=0.0)[None, :]
    h += tl.load(biases + column, mask=real, other=0.0)[None, :]
    tl.store(hidden + place, h, mask=inside)
    for layer in range(layers):
        a = tl.maximum(h / _norm(h, width), 0.0)
        square = layer * width * width + column[None, :] * width + column[:, None]  # transposed: [in, out]
        weight = tl.load(weights + square, mask=real[:, None] & real[None, :], other=0.0)
        bias = tl.load(biases + (layer + 1) * width + column, mask=real, other=0.0)
        h = tl.dot(a, weight, input_precision="tf32x3") + bias[None, :]
        tl.store(hidden + (layer + 1) * count * width + place, h, mask=inside)
    a = tl.maximum(h / _norm(h, width), 0.0)
    a = tl.trans(a)
    for tile in range(GROUP):
        channel = (tl.program_id(1) * GROUP + tile) * CHANNELS + tl.arange(0, CHANNELS)
        there = channel < channels
        weight = _last_weight(last, channel, there, column, real, width)
        bias = tl.load(last_bias + channel, mask=there, other=0.0)
        values = (tl.dot(weight, a, input_precision="tf32x3") + bias[:, None]) * _decay(log_decay, channel, there, lag)
        target = coefficients + channel.to(tl.int64)[:, None] * count + row[None, :]
        tl.store(target, values, mask=there[:, None] & known[None, :])


@triton.jit
def _last_weight(last, channel, there, column, real, width):
    """V, (CHANNELS, W)."""
    return tl.load(last + channel[:, None] * width + column[None, :], mask=there[:, None] & real[None, :], other=0.0)


@triton.jit
def _decay(log_decay, channel, there, lag):
    """exp(|k| log_decay), (CHANNELS, LAGS)."""
    return tl.exp(tl.load(log_decay + channel, mask=there, other=0.0)[:, None] * tl.abs(lag)[None, :])


@torch.library.custom_op("mixerzoo::encode_lags_backward", mutates_args=())
def gradients(
    dcoefficients: Tensor,
    lags: Tensor,
    divisor: float,
    log_decay: Tensor,
    weights: Tensor,
    last: Tensor,
    hidden: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradients of the inner layers (L + 1, P, P + 1) and of the last one (D, P + 1), from that by the coefficients
    (D, M): by the weights and, in the last column, by the bias. Layer 0 has one column of weights."""
    (layers, count, width), channels = hidden.shape, len(last)
    dhidden, parts, padded = torch.empty_like(hidden), splits(count), _padded(width)
    chosen = _plan(lags, padded)
    dinner = hidden.new_empty(parts, layers, width, width + 1)
    dlast = hidden.new_empty(parts, channels, width + 1)
    with torch.cuda.device_of(lags):
        _gradients[(triton.cdiv(count, chosen.lags),)](
            dcoefficients, lags, log_decay, weights, last, hidden, dhidden, count, width, layers - 1, channels,
            LAGS=chosen.lags, PADDED=padded, CHANNELS=chosen.backward_channels,
            num_warps=chosen.warps, num_stages=chosen.stages,
        )  # fmt: skip
        _inner_gradients[(layers, parts)](
            dhidden, hidden, lags, dinner, count, width, layers, divisor,
            LAGS=SUMMED, PADDED=padded, num_warps=4, num_stages=chosen.stages,
        )  # fmt: skip
        _last_gradients[(triton.cdiv(channels, chosen.last_channels), parts)](
            dcoefficients, lags, log_decay, hidden[-1], dlast, count, width, channels,
            LAGS=SUMMED, PADDED=padded, CHANNELS=chosen.last_channels, num_warps=8, num_stages=chosen.stages,
        )  # fmt: skip
    return dinner.sum(0), dlast.sum(0)


@gradients.register_fake
def _empty_gradients(
    dcoefficients: Tensor, lags: Tensor, divisor: float, log_decay: Tensor, *rest: Tensor
) -> tuple[Tensor, Tensor]:
    _, last, hidden = rest
    layers, _, width = hidden.shape
    return hidden.new_empty(layers, width, width + 1), hidden.new_empty(len(last), width + 1)


@register_flop_formula(torch.ops.mixerzoo.encode_lags_backward)
def _gradients_operations(dcoefficients, lags, divisor, log_decay, weights, last, hidden, **rest) -> int:
    """By what goes in and by the weights: twice those forward."""
    return 2 * _encode_operations(lags, None, None, None, weights, None, last, None)


@triton.jit
def _gradients(
    dcoefficients, lags, log_decay, weights, last, hidden, dhidden, count, width, layers, channels,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradients by all h_l for one tile of lags."""
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    known, real = row < count, column < width
    inside = known[:, None] & real[None, :]
    place = row[:, None] * width + column[None, :]
    entries = column[:, None] * width + column[None, :]  # [out, in]
    square = real[:, None] & real[None, :]
    lag = tl.load(lags + row, mask=known, other=0.0)
    da = tl.zeros((LAGS, PADDED), dtype=tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        there = channel < channels
        dvalues = _dvalues(dcoefficients, log_decay, channel, there, row, known, lag, count)
        weight = _last_weight(last, channel, there, column, real, width)
        da = tl.dot(tl.trans(dvalues), weight, da, input_precision="tf32x3")
    h = tl.load(hidden + layers * count * width + place, mask=inside, other=0.0)
    for back in range(layers):
        layer = layers - back
        dh = _dhidden(da, h, width)
        tl.store(dhidden + layer * count * width + place, dh, mask=inside)
        weight = tl.load(weights + (layer - 1) * width * width + entries, mask=square, other=0.0)
        da = tl.dot(dh, weight, input_precision="tf32x3")
        h = tl.load(hidden + (layer - 1) * count * width + place, mask=inside, other=0.0)
    tl.store(dhidden + place, _dhidden(da, h, width), mask=inside)


@triton.jit
def _dvalues(dcoefficients, log_decay, channel, there, row, known, lag, count):
    """The gradients by what the decay multiplies, (CHANNELS, LAGS)."""
    source = dcoefficients + channel.to(tl.int64)[:, None] * count + row[None, :]
    dvalues = tl.load(source, mask=there[:, None] & known[None, :], other=0.0)
    return dvalues * _decay(log_decay, channel, there, lag)


@triton.jit
def _inner_gradients(
    dhidden, hidden, lags, dinner, count, width, layers, divisor, LAGS: tl.constexpr, PADDED: tl.constexpr
):
    """The gradients by W_l and b_l, or by w and b_0, over one part of the lags: program (l, part)."""
    layer, column = tl.program_id(0), tl.arange(0, PADDED)
    real = column < width
    weight = tl.zeros((PADDED, PADDED), dtype=tl.float32)
    bias = tl.zeros((PADDED,), dtype=tl.float32)
    for start in range(tl.program_id(1) * LAGS, count, tl.num_programs(1) * LAGS):
        row = start + tl.arange(0, LAGS)
        inside = (row < count)[:, None] & real[None, :]
        place = row[:, None] * width + column[None, :]
        dh = tl.load(dhidden + layer * count * width + place, mask=inside, other=0.0)
        if layer == 0:
            lag = tl.load(lags + row, mask=row < count, other=0.0) / divisor
            a = tl.where(column[None, :] == 0, lag[:, None], 0.0)
        else:
            h = tl.load(hidden + (layer - 1) * count * width + place, mask=inside, other=0.0)
            a = tl.maximum(h / _norm(h, width), 0.0)
        weight = tl.dot(tl.trans(dh), a, weight, input_precision="tf32x3")
        bias += tl.sum(dh, axis=0)
    _store_gradients(
        dinner + (tl.program_id(1) * layers + layer) * width * (width + 1), weight, bias, column, width, column, width
    )


@triton.jit
def _store_gradients(target, weight, bias, row, rows, column, width):
    """(rows, P + 1): the gradients by weights, and by a bias in the last column."""
    target += row * (width + 1)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    tl.store(target[:, None] + column[None, :], weight, mask=inside)
    tl.store(target + width, bias, mask=row < rows)


@triton.jit
def _last_gradients(
    dcoefficients, lags, log_decay, hidden, dlast, count, width, channels,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradients by V and c over one part of the lags: program (tile of channels, part)."""
    channel, column = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, PADDED)
    there, real = channel < channels, column < width
    weight = tl.zeros((CHANNELS, PADDED), dtype=tl.float32)
    bias = tl.zeros((CHANNELS,), dtype=tl.float32)
    for start in range(tl.program_id(1) * LAGS, count, tl.num_programs(1) * LAGS):
        row = start + tl.arange(0, LAGS)
        known = row < count
        lag = tl.load(lags + row, mask=known, other=0.0)
        dvalues = _dvalues(dcoefficients, log_decay, channel, there, row, known, lag, count)
        place = row[:, None] * width + column[None, :]
        h = tl.load(hidden + place, mask=known[:, None] & real[None, :], other=0.0)
        a = tl.maximum(h / _norm(h, width), 0.0)
        weight = tl.dot(dvalues, a, weight, input_precision="tf32x3")
        bias += tl.sum(dvalues, axis=1)
    _store_gradients(dlast + tl.program_id(1) * channels * (width + 1), weight, bias, channel, channels, column, width)


@triton.jit
def _dhidden(da, h, width):
    """The gradient by h, given that by a(h). With u = h / n and n = |h| / sqrt(P) + 1e-8,
    dh = (du - h (du . u) / (|h| sqrt(P))) / n."""
    norm = _norm(h, width)
    du = tl.where(h > 0, da, 0.0)
    length = tl.sqrt(tl.sum(h * h, axis=1, keep_dims=True) * width)  # |h| sqrt(P)
    along = tl.sum(du * h, axis=1, keep_dims=True) / norm / tl.where(length > 0, length, 1.0)
    return (du - h * along) / norm
