"""TNN's relative position encoder with its decay in two kernels, and the derivatives in three.

    h_0 = w k / divisor + b,   h_l = W_l ReLU(u_{l-1}) + b_l,   u = h / n,   n = |h| / sqrt(P) + 1e-8;
    the coefficients of lag k are (V ReLU(u_L) + c) exp(-|k| rate), for lags k = first + step m, m < M.

A tile of lags goes through all inner layers on chip: separate operations would take longer to start than to run. All is
float32; products are three of float16 forward, whose limits are in `cuda/rows.cuh`, and three of TF32 backward. Where
all decays are zero in float32, as 0.99^k is for k > 10,400, so are the coefficients: there is nothing to compute.
Shapes: M lags, P width (padded to a power of two, W, in the kernels), L layers, D channels. The inner parameters are,
in this order, all W_l (P, P), all b_l (P,) and w (P,); gradients by them, and by V (D, P) and c (D,), stand in one row.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.encoder import inner_layers
from mixers.ops.kernels.program import Macros, kernel

BLOCKS = 264
"""Of `dactive` and `dparameters`, where there is enough to do: two on each multiprocessor of a large GPU."""

ACROSS = 4
"""Their warps that take different rows."""

SUMMED = 4096
"""The channels, or lags, that they sum at most, for the sake of precision (`cuda/pairs.cuh`)."""


@dataclass(frozen=True)
class Form:
    """What one of the kernels is compiled for."""

    layers: int
    padded: int
    rows: int
    """Of a block: lags, or, in `dparameters`, rows of parameters."""
    warps: int
    aligned: bool
    """Whether no width is padded, and parameters can be read four at a time."""
    far: bool

    def block(self, name: str) -> tuple[int, int]:
        """Its threads, and bytes of shared memory."""
        numbers = {
            "hidden": self.rows * self.padded,
            "channels": self.rows * self.padded,
            "dactive": self.warps // 2 * self.rows * self.padded,
            "dhidden": self.rows * (self.padded + 16),
            "dparameters": self.warps // 2 * self.rows * (self.padded + 8),
        }
        return 32 * self.warps, 4 * numbers[name]

    def macros(self, name: str) -> Macros:
        """What a kernel is compiled with."""
        values = {"LAYERS": self.layers, "PADDED": self.padded, "ROWS": self.rows, "WARPS": self.warps}
        values |= {"ACROSS": ACROSS, "ALIGNED": int(self.aligned), "FAR": int(self.far)}
        return tuple((key, str(value)) for key, value in values.items())


def forms(count: int, width: int, layers: int, aligned: bool) -> dict[str, Form]:
    """Of each kernel, for parameters that begin at addresses which are `aligned`.

    A block takes few lags where there are few, else most of a GPU would wait; what it does once, it does for more of
    them where there are many. For wider layers, more would not stay in registers.
    """
    padded = max(32, triton.next_power_of_2(width))
    how = {"layers": layers, "padded": padded, "aligned": aligned and padded == width, "far": far(count)}
    few, wide = count <= 4096, padded > 64
    return {
        "hidden": Form(rows=16 if few else 32, warps=max(4, padded // 16), **how),
        "channels": Form(rows=64 if count <= 2048 or wide else 128, warps=8, **how),
        "dactive": Form(rows=16, warps=8, **how),
        "dhidden": Form(rows=16 if few or wide else 32, warps=min(8, padded // 8), **how),
        "dparameters": Form(rows=16, warps=8, **how),
    }


def far(count: int) -> bool:
    """Whether so many lags may reach to where all decays are zero, so that it pays to look."""
    return count >= 4096


@torch.library.custom_op("mixerzoo::encode_lags", mutates_args=())
def encode(
    count: int, first: float, step: float, divisor: float, rate: Tensor, inner: list[Tensor], last: Tensor,
    last_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The coefficients (D, M), all u_l (L + 1, M, P), all n_l (L + 1, M), and by 128 lags, if they are `far`, whether
    decays are not all zero.

    From `count` lags, rate (D,), the inner parameters, last V (D, P) and last_bias c (D,), all contiguous.
    """
    coefficients, units, norms, alive = _empty(count, first, step, divisor, rate, inner, last, last_bias)
    channels, width = last.shape
    if count == 0:
        return coefficients, units, norms, alive
    how = _forms(count, inner, last)
    hidden, of_channels = how["hidden"], how["channels"]
    stretches = triton.cdiv(count, of_channels.rows)
    active = last.new_empty(stretches * of_channels.rows, hidden.padded)  # pairs of float16, as lanes read them
    kernel("hidden", hidden, last.device)(
        triton.cdiv(count, hidden.rows),
        rate, inner, last, units, norms, active, alive, coefficients,
        count, width, channels, first, step, divisor,
    )  # fmt: skip
    kernel("channels", of_channels, last.device)(
        stretches * triton.cdiv(channels, 16 * of_channels.warps),
        rate, active, alive, last, last_bias, coefficients, count, width, channels, first, step,
    )  # fmt: skip
    return coefficients, units, norms, alive


def _forms(count: int, inner: list[Tensor], last: Tensor) -> dict[str, Form]:
    layers = inner_layers(inner)
    aligned = all(part.data_ptr() % 16 == 0 for part in (*inner[:layers], last))
    return forms(count, last.shape[1], layers, aligned)


@encode.register_fake
def _empty(
    count: int, first: float, step: float, divisor: float, rate: Tensor, inner: list[Tensor], last: Tensor,
    last_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    channels, width = last.shape
    layers = inner_layers(inner) + 1
    alive = last.new_empty(triton.cdiv(count, 128) if far(count) else 0, dtype=torch.int32)
    return last.new_empty(channels, count), last.new_empty(layers, count, width), last.new_empty(layers, count), alive


@register_flop_formula(torch.ops.mixerzoo.encode_lags)
def _encode_operations(count, first, step, divisor, rate, inner, last, last_bias, **rest) -> int:
    return _operations(count, inner_layers(inner), *last)


def _operations(count: int, layers: int, channels: int, width: int) -> int:
    return 2 * count * width * (width * layers + channels)


@torch.library.custom_op("mixerzoo::encode_lags_backward", mutates_args=())
def gradients(
    dcoefficients: Tensor, first: float, step: float, divisor: float, rate: Tensor, inner: list[Tensor], last: Tensor,
    units: Tensor, norms: Tensor, alive: Tensor,
) -> Tensor:  # fmt: skip
    """The gradients by the inner parameters and by the last ones, in one row, from that by the coefficients (D, M) and
    what `encode` found."""
    (layers, count, width), channels = units.shape, len(last)
    if count == 0:
        return last.new_zeros(_numbers(inner, last))
    how = _forms(count, inner, last)
    stretches = triton.cdiv(count, ACROSS * how["dactive"].rows)
    parts = _parts(stretches, channels)
    dactive = units.new_empty(parts, count, width)
    kernel("dactive", how["dactive"], last.device)(
        stretches * parts,
        dcoefficients, rate, inner, last, alive, dactive, count, width, channels, parts, first, step,
    )  # fmt: skip
    dhidden = torch.empty_like(units)
    kernel("dhidden", how["dhidden"], last.device)(
        triton.cdiv(count, how["dhidden"].rows),
        dactive, inner, units, norms, alive, dhidden, count, width, parts,
    )  # fmt: skip
    rows = ACROSS * how["dparameters"].rows
    groups = layers * triton.cdiv(how["dparameters"].padded, rows) + triton.cdiv(channels, rows)
    parts, numbers = _parts(groups, count), _numbers(inner, last)
    sums = last.new_empty(parts, 4 * triton.cdiv(numbers, 4))  # so that rows are written four numbers at a time
    kernel("dparameters", how["dparameters"], last.device)(
        groups * parts,
        dcoefficients, rate, units, dhidden, alive, sums,
        count, width, channels, parts, sums.shape[1], first, step, divisor,
    )  # fmt: skip
    return sums[:, :numbers].sum(0)


@gradients.register_fake
def _empty_gradients(
    dcoefficients: Tensor, first: float, step: float, divisor: float, rate: Tensor, inner: list[Tensor], last: Tensor,
    units: Tensor, norms: Tensor, alive: Tensor,
) -> Tensor:  # fmt: skip
    return last.new_empty(_numbers(inner, last))


def _parts(blocks: int, summed: int) -> int:
    """Into which sums fall, of so many lags or channels, and for each of which there are so many blocks."""
    return max(min(BLOCKS // blocks, triton.cdiv(summed, 64)), triton.cdiv(summed, SUMMED))


def _numbers(inner: list[Tensor], last: Tensor) -> int:
    """Of all parameters."""
    return sum(part.numel() for part in inner) + last.numel() + len(last)


@register_flop_formula(torch.ops.mixerzoo.encode_lags_backward)
def _gradients_operations(dcoefficients, first, step, divisor, rate, inner, last, units, *known, **rest) -> int:
    """By what goes in and by the weights: twice those forward."""
    return 2 * _operations(units[1], units[0] - 1, *last)
