# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (a jitted function has other arguments than its definition)
"""TNN's relative position encoder with its decay in one kernel, and the derivatives in three.

    h_0 = w k / divisor + b,   h_l = W_l ReLU(u_{l-1}) + b_l,   u = h / n,   n = |h| / sqrt(P) + 1e-8;
    the coefficients of lag k are (V ReLU(u_L) + c) exp(-|k| rate), for lags k = first + step m, m < M.

A tile of lags goes through all layers on chip: separate operations would take longer to start than to run. All is
float32: products forward are three of TF32, and backward six of bfloat16, whichever took less time on an H200. Where
all decays are zero in float32, as 0.99^k is for k > 10,400, so are the coefficients: there is nothing to compute.
Shapes: M lags, P width (padded to a power of two, W, in the kernels), L layers, D channels. The inner parameters, and
gradients by them, stand in one row: W_l (L, P, P), b_l (L + 1, P), w (P,); so do those by V (D, P) and c (D,).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.capability import ROOMY, capability
from mixers.ops.encoder import inner_layers

CHANNELS = 128
"""A tile of `encode`."""

SMALLEST = tl.constexpr(1e-8)
"""That n begins with."""

SUMMED = 64
"""The lags that a program for the gradients of a layer takes at a time, and the channels for those of the last."""


@dataclass(frozen=True)
class Plan:
    """How large the programs of `encode` are. Their memory on chip limits them: with room for it they read ahead."""

    lags: int
    """A tile: few where there are few, else most of a GPU would wait."""
    warps: int
    stages: int
    programs: int
    """So many there should be: each computes the inner layers for itself, so it writes as many tiles of channels as
    leaves a large GPU enough to do."""


def plan(count: int, padded: int, roomy: bool) -> Plan:
    """For `count` lags and layers of `padded` width; a `roomy` GPU has 227 KB a program, another may have 99."""
    few = 16 if count < 4096 else 32
    if not roomy or padded > 64:
        return Plan(lags=few, warps=4, stages=1, programs=256)
    if count <= 2048 and padded == 64:  # eight columns a warp
        return Plan(lags=few, warps=8, stages=3, programs=128)
    if count < 16_384:
        return Plan(lags=few, warps=4, stages=3, programs=256)
    return Plan(lags=128, warps=8, stages=3, programs=256)


def far(count: int) -> bool:
    """Whether so many lags may reach to where all decays are zero, so that it pays to look."""
    return count >= 4096


def backward_tile(count: int, padded: int) -> tuple[int, int]:
    """The lags that a program for the gradients by h_l takes, and the channels at a time."""
    lags = 16 if count <= 4096 else 32 if count < 16_384 or padded > 64 else 64
    return lags, min(128, 8192 // lags, 8192 // padded)


def tiles_together(channels: int, lags_programs: int, programs: int) -> int:
    """Tiles of channels that one program of `encode` writes: so many take all lags, and there should be `programs`."""
    tiles = triton.cdiv(channels, CHANNELS)
    parts = min(triton.cdiv(programs, max(lags_programs, 1)), tiles)
    return triton.cdiv(tiles, parts)


def splits(count: int) -> int:
    """Parts into which the sums over all lags fall."""
    return min(triton.cdiv(count, 2 * SUMMED), 32)


@torch.library.custom_op("mixerzoo::encode_lags", mutates_args=())
def encode(
    count: int, first: float, step: float, divisor: float, rate: Tensor, inner: Tensor, last: Tensor, last_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The coefficients (D, M), all u_l (L + 1, M, P) and all n_l (L + 1, M).

    From `count` lags, rate (D,), the inner parameters, last V (D, P) and last_bias c (D,), all contiguous.
    """
    coefficients, units, norms = _empty(count, first, step, divisor, rate, inner, last, last_bias)
    channels, width = last.shape
    padded = _padded(width)
    chosen = plan(count, padded, last.is_cuda and capability(last.device)[0] in ROOMY)
    programs = triton.cdiv(count, chosen.lags)
    group = tiles_together(channels, programs, chosen.programs)
    grid = (programs, triton.cdiv(channels, CHANNELS * group))
    with torch.cuda.device_of(last):
        _encode[grid](
            rate, inner, last, last_bias, coefficients, units, norms,
            count, width, len(units) - 1, channels, first, step, divisor,
            LAGS=chosen.lags, PADDED=padded, CHANNELS=CHANNELS, GROUP=group, FAR=far(count),
            num_warps=chosen.warps, num_stages=chosen.stages,
        )  # fmt: skip
    return coefficients, units, norms


@encode.register_fake
def _empty(
    count: int, first: float, step: float, divisor: float, rate: Tensor, inner: Tensor, last: Tensor, last_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    channels, width = last.shape
    layers = inner_layers(len(inner), width) + 1
    return last.new_empty(channels, count), last.new_empty(layers, count, width), last.new_empty(layers, count)


def _padded(width: int) -> int:
    return max(16, triton.next_power_of_2(width))


@register_flop_formula(torch.ops.mixerzoo.encode_lags)
def _encode_operations(count, first, step, divisor, rate, inner, last, last_bias, **rest) -> int:
    channels, width = last
    return 2 * count * width * (width * inner_layers(inner[0], width) + channels)


@triton.jit
def _encode(
    rate, inner, last, last_bias, coefficients, units, norms,
    count, width, layers, channels, first, step, divisor,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, GROUP: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    known, real = row < count, column < width
    if FAR:
        begin, end = _live(rate, channels, count, first, step)
        if (tl.program_id(0) * LAGS < begin) | (tl.program_id(0) * LAGS >= end):
            for tile in range(GROUP):
                channel = (tl.program_id(1) * GROUP + tile) * CHANNELS + tl.arange(0, CHANNELS)
                target = coefficients + channel.to(tl.int64)[:, None] * count + row[None, :]
                zeros = tl.zeros((CHANNELS, LAGS), dtype=tl.float32)
                tl.store(target, zeros, mask=(channel < channels)[:, None] & known[None, :])
            return
    once = known[:, None] & (tl.program_id(1) == 0)
    inside = once & real[None, :]
    place = row[:, None] * width + column[None, :]
    lag = first + step * row.to(tl.float32)
    biases = inner + layers * width * width
    h = (lag / divisor)[:, None] * tl.load(biases + (layers + 1) * width + column, mask=real, other=0.0)[None, :]
    h += tl.load(biases + column, mask=real, other=0.0)[None, :]
    for layer in range(layers):
        u = _unit(h, norms + layer * count + row[:, None], once, width)
        tl.store(units + layer * count * width + place, u, mask=inside)
        square = layer * width * width + column[None, :] * width + column[:, None]  # transposed: [in, out]
        weight = tl.load(inner + square, mask=real[:, None] & real[None, :], other=0.0)
        bias = tl.load(biases + (layer + 1) * width + column, mask=real, other=0.0)
        h = tl.dot(tl.maximum(u, 0.0), weight, input_precision="tf32x3") + bias[None, :]
    u = _unit(h, norms + layers * count + row[:, None], once, width)
    tl.store(units + layers * count * width + place, u, mask=inside)
    a = tl.trans(tl.maximum(u, 0.0))
    for tile in range(GROUP):
        channel = (tl.program_id(1) * GROUP + tile) * CHANNELS + tl.arange(0, CHANNELS)
        there = channel < channels
        weight = _last_weight(last, channel, there, column, real, width)
        bias = tl.load(last_bias + channel, mask=there, other=0.0)
        values = (tl.dot(weight, a, input_precision="tf32x3") + bias[:, None]) * _decay(rate, channel, there, lag)
        target = coefficients + channel.to(tl.int64)[:, None] * count + row[None, :]
        tl.store(target, values, mask=there[:, None] & known[None, :])


@triton.jit
def _unit(h, norms, once, width):
    """u, (M, P), whose n is stored."""
    norm = tl.sqrt(tl.sum(h * h, axis=1, keep_dims=True) / width) + SMALLEST
    tl.store(norms, norm, mask=once)
    return h * (1.0 / norm)


@triton.jit
def _live(rate, channels, count, first, step):
    """Where lags begin, by blocks of 128, and end whose decays are not all zero in float32: exp(-104) is."""
    slowest = float("inf")
    for start in range(0, channels, 1024):
        channel = start + tl.arange(0, 1024)
        slowest = tl.minimum(slowest, tl.min(tl.load(rate + channel, mask=channel < channels, other=float("inf"))))
    reach = 104.0 / tl.maximum(slowest, 1e-30)
    begin = tl.maximum((-reach - first) / step, 0.0).to(tl.int32) // 128 * 128
    end = (tl.minimum((reach - first) / step, count.to(tl.float32)).to(tl.int32) // 128 + 1) * 128
    return begin, tl.minimum(end, count)


@triton.jit
def _last_weight(last, channel, there, column, real, width):
    """V, (CHANNELS, W)."""
    return tl.load(last + channel[:, None] * width + column[None, :], mask=there[:, None] & real[None, :], other=0.0)


@triton.jit
def _decay(rate, channel, there, lag):
    """exp(-|k| rate), (CHANNELS, LAGS)."""
    return tl.exp(-tl.load(rate + channel, mask=there, other=0.0)[:, None] * tl.abs(lag)[None, :])


@torch.library.custom_op("mixerzoo::encode_lags_backward", mutates_args=())
def gradients(
    dcoefficients: Tensor, first: float, step: float, divisor: float, rate: Tensor, inner: Tensor, last: Tensor,
    units: Tensor, norms: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients by the inner parameters and by the last ones, from that by the coefficients (D, M)."""
    (layers, count, width), channels = units.shape, len(last)
    dhidden, parts, padded = torch.empty_like(units), splits(count), _padded(width)
    dinner = units.new_empty(parts, len(inner))
    dlast = units.new_empty(parts, channels * (width + 1))
    lags, together = backward_tile(count, padded)
    with torch.cuda.device_of(last):
        _gradients[(triton.cdiv(count, lags),)](
            dcoefficients, rate, inner, last, units, norms, dhidden,
            count, width, layers - 1, channels, first, step,
            LAGS=lags, PADDED=padded, CHANNELS=together, FAR=far(count), num_warps=4, num_stages=1,
        )  # fmt: skip
        _inner_gradients[(layers, parts)](
            dhidden, rate, units, dinner, count, width, layers - 1, channels, first, step, divisor,
            LAGS=SUMMED, PADDED=padded, FAR=far(count), num_warps=4, num_stages=1,
        )  # fmt: skip
        _last_gradients[(triton.cdiv(channels, SUMMED), parts)](
            dcoefficients, rate, units[-1], dlast, count, width, channels, first, step,
            LAGS=SUMMED, PADDED=padded, CHANNELS=SUMMED, FAR=far(count), num_warps=4, num_stages=1,
        )  # fmt: skip
    return dinner.sum(0), dlast.sum(0)


@gradients.register_fake
def _empty_gradients(
    dcoefficients: Tensor, first: float, step: float, divisor: float, rate: Tensor, inner: Tensor, last: Tensor,
    units: Tensor, norms: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(inner), last.new_empty(last.numel() + len(last))


@register_flop_formula(torch.ops.mixerzoo.encode_lags_backward)
def _gradients_operations(dcoefficients, first, step, divisor, rate, inner, last, units, norms, **rest) -> int:
    """By what goes in and by the weights: twice those forward."""
    return 2 * _encode_operations(dcoefficients[1], None, None, None, None, inner, last, None)


@triton.jit
def _gradients(
    dcoefficients, rate, inner, last, units, norms, dhidden, count, width, layers, channels, first, step,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """The gradients by all h_l for one tile of lags; nobody reads those where all decays are zero."""
    if FAR:
        begin, end = _live(rate, channels, count, first, step)
        if (tl.program_id(0) * LAGS < begin) | (tl.program_id(0) * LAGS >= end):
            return
    row, column = tl.program_id(0) * LAGS + tl.arange(0, LAGS), tl.arange(0, PADDED)
    known, real = row < count, column < width
    inside = known[:, None] & real[None, :]
    place = row[:, None] * width + column[None, :]
    entries = column[:, None] * width + column[None, :]  # [out, in]
    square = real[:, None] & real[None, :]
    lag = first + step * row.to(tl.float32)
    transposed = tl.zeros((PADDED, LAGS), dtype=tl.float32)  # so that no tile of coefficients needs to be
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        there = channel < channels
        dvalues = _dvalues(dcoefficients, rate, channel, there, row, known, lag, count)
        weight = _last_weight(last, channel, there, column, real, width)
        transposed = tl.dot(tl.trans(weight), dvalues, transposed, input_precision="bf16x6")
    da = tl.trans(transposed)
    for back in range(layers):
        layer = layers - back
        dh = _dhidden(da, units, norms, layer, row, place, known, inside, count, width)
        tl.store(dhidden + layer * count * width + place, dh, mask=inside)
        weight = tl.load(inner + (layer - 1) * width * width + entries, mask=square, other=0.0)
        da = tl.dot(dh, weight, input_precision="bf16x6")
    dh = _dhidden(da, units, norms, 0, row, place, known, inside, count, width)
    tl.store(dhidden + place, dh, mask=inside)


@triton.jit
def _dvalues(dcoefficients, rate, channel, there, row, known, lag, count):
    """The gradients by what the decay multiplies, (CHANNELS, LAGS)."""
    source = dcoefficients + channel.to(tl.int64)[:, None] * count + row[None, :]
    dvalues = tl.load(source, mask=there[:, None] & known[None, :], other=0.0)
    return dvalues * _decay(rate, channel, there, lag)


@triton.jit
def _inner_gradients(
    dhidden, rate, units, dinner, count, width, layers, channels, first, step, divisor,
    LAGS: tl.constexpr, PADDED: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """The gradients by W_l and b_l, or by w and b_0, over one part of the lags: program (l, part)."""
    layer, column = tl.program_id(0), tl.arange(0, PADDED)
    real = column < width
    weight = tl.zeros((PADDED, PADDED), dtype=tl.float32)
    bias = tl.zeros((PADDED,), dtype=tl.float32)
    by_lag = tl.zeros((PADDED,), dtype=tl.float32)
    begin, end = 0, count
    if FAR:
        begin, end = _live(rate, channels, count, first, step)
    for start in range(begin + tl.program_id(1) * LAGS, end, tl.num_programs(1) * LAGS):
        row = start + tl.arange(0, LAGS)
        inside = (row < count)[:, None] & real[None, :]
        place = row[:, None] * width + column[None, :]
        dh = tl.load(dhidden + layer * count * width + place, mask=inside, other=0.0)
        if layer == 0:
            by_lag += tl.sum(dh * ((first + step * row.to(tl.float32)) / divisor)[:, None], axis=0)
        else:
            u = tl.load(units + (layer - 1) * count * width + place, mask=inside, other=0.0)
            weight = tl.dot(tl.trans(dh), tl.maximum(u, 0.0), weight, input_precision="bf16x6")
        bias += tl.sum(dh, axis=0)
    biases = layers * width * width
    target = dinner + tl.program_id(1) * (biases + (layers + 2) * width)
    tl.store(target + biases + layer * width + column, bias, mask=real)
    if layer == 0:
        tl.store(target + biases + (layers + 1) * width + column, by_lag, mask=real)
    else:
        target += (layer - 1) * width * width
        square = real[:, None] & real[None, :]
        tl.store(target + column[:, None] * width + column[None, :], weight, mask=square)


@triton.jit
def _last_gradients(
    dcoefficients, rate, units, dlast, count, width, channels, first, step,
    LAGS: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """The gradients by V and c over one part of the lags: program (tile of channels, part)."""
    channel, column = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, PADDED)
    there, real = channel < channels, column < width
    weight = tl.zeros((CHANNELS, PADDED), dtype=tl.float32)
    bias = tl.zeros((CHANNELS,), dtype=tl.float32)
    begin, end = 0, count
    if FAR:
        begin, end = _live(rate, channels, count, first, step)
    for start in range(begin + tl.program_id(1) * LAGS, end, tl.num_programs(1) * LAGS):
        row = start + tl.arange(0, LAGS)
        known = row < count
        lag = first + step * row.to(tl.float32)
        dvalues = _dvalues(dcoefficients, rate, channel, there, row, known, lag, count)
        place = row[:, None] * width + column[None, :]
        u = tl.load(units + place, mask=known[:, None] & real[None, :], other=0.0)
        weight = tl.dot(dvalues, tl.maximum(u, 0.0), weight, input_precision="bf16x6")
        bias += tl.sum(dvalues, axis=1)
    target = dlast + tl.program_id(1) * channels * (width + 1)
    tl.store(target + channel[:, None] * width + column[None, :], weight, mask=there[:, None] & real[None, :])
    tl.store(target + channels * width + channel, bias, mask=there)


@triton.jit
def _dhidden(da, units, norms, layer, row, place, known, inside, count, width):
    """The gradient by h_l, given that by ReLU(u_l): (du - u (du . u) / P / s) / n, where s = |h| / sqrt(P) / n."""
    u = tl.load(units + layer * count * width + place, mask=inside, other=0.0)
    norm = tl.load(norms + layer * count + row, mask=known, other=1.0)[:, None]
    du = tl.where(u > 0, da, 0.0)
    share = tl.maximum(1 - 1 / norm * SMALLEST, 1e-5)  # below, u is next to nothing, and float32 does not know it
    along = tl.sum(du * u, axis=1, keep_dims=True) / width / share
    return (du - u * along) / norm
