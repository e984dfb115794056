# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (a jitted function has other arguments than its definition)
"""TNN's relative position encoder with its decay in two kernels, and the derivatives in three.

    h_0 = w k / divisor + b,   h_l = W_l ReLU(u_{l-1}) + b_l,   u = h / n,   n = |h| / sqrt(P) + 1e-8;
    the coefficients of lag k are (V ReLU(u_L) + c) exp(-|k| rate), for lags k = first + step m, m < M.

A tile of lags goes through all inner layers on chip: separate operations would take longer to start than to run. All is
float32; products are three of float16 forward, whose limits `rows.cuh` names in the folder `cuda`, where `hidden` and
`channels` are, and six of bfloat16 backward. Where all decays are zero in float32, as 0.99^k is for k > 10,400, so are
the coefficients: there is nothing to compute.
Shapes: M lags, P width (padded to a power of two, W, in the kernels), L layers, D channels. The inner parameters, and
gradients by them, stand in one row: W_l (L, P, P), b_l (L + 1, P), w (P,); so do those by V (D, P) and c (D,).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.encoder import inner_layers
from mixers.ops.kernels.program import Macros, kernel

SMALLEST = tl.constexpr(1e-8)
"""That n begins with."""

SUMMED = 64
"""The lags that a program for the gradients of a layer takes at a time, and the channels for those of the last."""


@dataclass(frozen=True)
class Form:
    """What `hidden` or `channels` is compiled for."""

    padded: int
    lags: int
    """Of a block."""
    warps: int
    aligned: bool
    """Whether no width is padded, and parameters can be read four at a time."""
    far: bool

    def block(self, name: str) -> tuple[int, int]:
        """Its threads, and bytes of ReLU(u) on chip."""
        return 32 * self.warps, 4 * self.lags * self.padded

    def macros(self, name: str) -> Macros:
        """What a kernel is compiled with."""
        values = {"PADDED": self.padded, "LAGS": self.lags, "WARPS": self.warps}
        values |= {"ALIGNED": int(self.aligned), "FAR": int(self.far)}
        return tuple((key, str(value)) for key, value in values.items())


def forms(count: int, width: int, aligned: bool) -> tuple[Form, Form]:
    """Of `hidden` and of `channels`, for parameters that begin at addresses which are `aligned`.

    A block takes few lags where there are few, else most of a GPU would wait; what it does once, it does for more of
    them where there are many. For wider layers, more would not stay in registers.
    """
    padded = max(32, _padded(width))
    how = {"padded": padded, "aligned": aligned and padded == width, "far": far(count)}
    hidden = Form(lags=16 if count <= 4096 else 32, warps=max(4, padded // 16), **how)
    return hidden, Form(lags=64 if count <= 2048 or padded > 64 else 128, warps=8, **how)


def far(count: int) -> bool:
    """Whether so many lags may reach to where all decays are zero, so that it pays to look."""
    return count >= 4096


def backward_tile(count: int, padded: int) -> tuple[int, int]:
    """The lags that a program for the gradients by h_l takes, and the channels at a time."""
    lags = 16 if count <= 4096 else 32 if count < 16_384 or padded > 64 else 64
    return lags, min(128, 8192 // lags, 8192 // padded)


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
    if count == 0:
        return coefficients, units, norms
    hidden, of_channels = forms(count, width, inner.data_ptr() % 16 == last.data_ptr() % 16 == 0)
    stretches = triton.cdiv(count, of_channels.lags)
    active = last.new_empty(stretches * of_channels.lags, hidden.padded)  # pairs of float16, as lanes read them
    alive = last.new_empty(triton.cdiv(count, 128), dtype=torch.int32)
    kernel("hidden", hidden, last.device)(
        (triton.cdiv(count, hidden.lags),),
        rate, inner, units, norms, active, alive, coefficients,
        count, width, len(units) - 1, channels, first, step, divisor,
    )  # fmt: skip
    kernel("channels", of_channels, last.device)(
        (stretches * triton.cdiv(channels, 16 * of_channels.warps),),
        rate, active, alive, last, last_bias, coefficients, count, width, channels, first, step,
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
