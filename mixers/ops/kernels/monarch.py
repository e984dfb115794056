# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportArgumentType=false
# (a jitted function has other arguments than its definition)
"""The Toeplitz product by a Fourier transform that is two matrix products, for tensor cores, all on chip.

At the frequencies w_f = exp(-2 pi i (f + 1/4) / P), f < P, w_f^P = -i: what wraps around P tokens is imaginary. So

    y = Re F^H (C F x),    (F x)_f = sum over j of w_f^j x_j / sqrt(P),    C_f = sum over all lags l of w_f^l t[l]

is the product of up to P tokens, without the zeros that other transforms need beside them. With P = R S, j = S a + b
and f = g + R h (a, g < R; b, h < S),

    (F x)[g, h] = sum over b of e(b h / S) e(b (g + 1/4) / P) sum over a of e(a (g + 1/4) / R) x[a, b]

where e(z) = exp(-2 pi i z): a matrix from the left, factors, a matrix from the right, as in Monarch matrices (Dao et
al., ICML 2022, https://arxiv.org/abs/2204.00595) and FlashFFTConv (Fu et al., 2023, https://arxiv.org/abs/2311.05908).

The gradients are dx = Re F^H (conj(C) F dy), and by t the real part of sqrt(P) F^H (F dy conj(F x)); by a lag l < 0 it
is the imaginary part at P + l, since w_f^(P + l) = -i w_f^l. Half precision works on float16 numbers, whose sequences
and coefficients are scaled by powers of two.
Shapes: B batch, N length, D channels; x and y (D, B, N), contiguous; t (D, lags), lags from `lowest` on.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.kernels.tiles import precision

HEADROOM: tl.constexpr = tl.constexpr(16.0)
"""About the sum of the sizes of scaled coefficients. Numbers grow by twice it and sqrt(P S): float16 ends at 65,504."""


def sides(length: int) -> tuple[int, int]:
    """R and S for sequences of up to `length` tokens; smaller matrices would be too narrow for Hopper's products."""
    return (64, 64) if length <= 64 * 64 else (128, 64)


def _tables(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The matrix from the left (2, R, R), the factors (2, R, S) in float32, and the matrix from the right (2, S, S)."""
    left = torch.empty(2, rows, rows, dtype=dtype, device=device)
    factors = torch.empty(2, rows, columns, dtype=torch.float32, device=device)
    right = torch.empty(2, columns, columns, dtype=dtype, device=device)
    for table, shift, period in ((left, 1, rows), (factors, 1, rows * columns), (right, 0, columns)):
        size = 1.0 if table is factors else period**-0.5
        _waves[(table.shape[1],)](table, shift, 4 * period, math.tau / (4 * period), size, COLUMNS=table.shape[2])
    return left, factors, right


@triton.jit
def _waves(table, shift, period, angle, size, COLUMNS: tl.constexpr):
    """exp(-i angle (4 g + shift) b) size, real and imaginary parts."""
    g, b = tl.program_id(0), tl.arange(0, COLUMNS)
    turn = (((4 * g + shift) * b) % period).to(tl.float32) * angle  # of whole numbers: exact
    place = table + g * COLUMNS + b
    tl.store(place, (tl.cos(turn) * size).to(table.dtype.element_ty))
    tl.store(place + tl.num_programs(0) * COLUMNS, (-tl.sin(turn) * size).to(table.dtype.element_ty))


@triton.jit
def _pair(table, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Real and imaginary parts (ROWS, COLUMNS)."""
    place = table + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return tl.load(place), tl.load(place + ROWS * COLUMNS)


TINY: tl.constexpr = tl.constexpr(2.0**-126)
"""The least number that is not subnormal: a GPU may take smaller ones for zero."""


@triton.jit
def _power_of_two(size):
    """The greatest one that is not above `size`; TINY for less."""
    bits = tl.maximum(size, TINY).to(tl.int32, bitcast=True)
    return (bits & 0x7F800000).to(tl.float32, bitcast=True)


@triton.jit
def _transform(x, left, factors, right, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr):
    """F x, real and imaginary parts (ROWS, COLUMNS) in float32."""
    real, imaginary = _pair(left, ROWS, ROWS)
    a, b = tl.dot(real, x, input_precision=PRECISION), tl.dot(imaginary, x, input_precision=PRECISION)
    cosine, sine = _pair(factors, ROWS, COLUMNS)
    a, b = (a * cosine - b * sine).to(x.dtype), (a * sine + b * cosine).to(x.dtype)
    real, imaginary = _pair(right, COLUMNS, COLUMNS)
    c = tl.dot(a, real, input_precision=PRECISION) - tl.dot(b, imaginary, input_precision=PRECISION)
    d = tl.dot(a, imaginary, tl.dot(b, real, input_precision=PRECISION), input_precision=PRECISION)
    return c, d


@triton.jit
def _inverse(a, b, left, factors, right, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr):
    """Re F^H (a + i b), (ROWS, COLUMNS) in float32."""
    dtype: tl.constexpr = left.dtype.element_ty
    real, imaginary = _pair(right, COLUMNS, COLUMNS)
    a, b = a.to(dtype), b.to(dtype)
    c = tl.dot(a, real, tl.dot(b, imaginary, input_precision=PRECISION), input_precision=PRECISION)
    d = tl.dot(b, real, input_precision=PRECISION) - tl.dot(a, imaginary, input_precision=PRECISION)
    cosine, sine = _pair(factors, ROWS, COLUMNS)
    c, d = (c * cosine + d * sine).to(dtype), (d * cosine - c * sine).to(dtype)
    transposed = left + tl.arange(0, ROWS)[:, None] + tl.arange(0, ROWS)[None, :] * ROWS
    y = tl.dot(tl.load(transposed), c, input_precision=PRECISION)
    return tl.dot(tl.load(transposed + ROWS * ROWS), d, y, input_precision=PRECISION)


@torch.library.custom_op("mixerzoo::toeplitz_spectrum", mutates_args=())
def spectrum(coefficients: Tensor, lowest: int, length: int) -> tuple[Tensor, Tensor]:
    """C / scale, (D, 2, R, S) in float32, and the scale (D,), of coefficients (D, lags) for up to `length` tokens."""
    values, scale = _empty_spectrum(coefficients, lowest, length)
    channels, lags = coefficients.shape
    rows, columns = sides(length)
    with torch.cuda.device_of(coefficients):
        _spectrum[(channels,)](
            coefficients, *_tables(rows, columns, torch.float32, coefficients.device), values, scale,
            *coefficients.stride(), lags, lowest,
            BELOW=lowest < 0, **_shape(rows, columns),
        )  # fmt: skip
    return values, scale


@spectrum.register_fake
def _empty_spectrum(coefficients: Tensor, lowest: int, length: int) -> tuple[Tensor, Tensor]:
    channels = len(coefficients)
    return coefficients.new_empty(channels, 2, *sides(length)), coefficients.new_empty(channels)


def _shape(rows: int, columns: int) -> dict[str, int]:
    """How a kernel is compiled; one stage, else the tables would be on chip several times."""
    return {"ROWS": rows, "COLUMNS": columns, "num_warps": rows // 16, "num_stages": 1}


@triton.jit
def _spectrum(
    t, left, factors, right, values, scale, channel_stride, lag_stride, lags, lowest,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BELOW: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    place = token - lowest
    start = t + channel * channel_stride
    above = tl.load(start + place.to(tl.int64) * lag_stride, mask=place < lags, other=0.0)
    place -= ROWS * COLUMNS  # lag l < 0 is at token P + l
    inside = BELOW & (place >= 0) & (place < -lowest)
    below = tl.load(start + place.to(tl.int64) * lag_stride, mask=inside, other=0.0)
    divisor = _power_of_two(tl.sum(tl.abs(above)) + tl.sum(tl.abs(below))) / HEADROOM
    divisor = tl.maximum(divisor, TINY)
    real, imaginary = _transform(above / divisor, left, factors, right, ROWS, COLUMNS, "tf32x3")
    if BELOW:
        c, d = _transform(below / divisor, left, factors, right, ROWS, COLUMNS, "tf32x3")
        real, imaginary = real - d, imaginary + c
    root = tl.sqrt(ROWS * COLUMNS * 1.0)
    target = values + channel * 2 * ROWS * COLUMNS + token
    tl.store(target, real * root)
    tl.store(target + ROWS * COLUMNS, imaginary * root)
    tl.store(scale + channel, divisor)


@torch.library.custom_op("mixerzoo::toeplitz_monarch", mutates_args=())
def product(values: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """y (D, B, N) from what `spectrum` made of the coefficients, and x (D, B, N)."""
    y = torch.empty_like(x)
    channels, batch, length = x.shape
    rows, columns = values.shape[2:]
    with torch.cuda.device_of(x):
        _product[(channels, _groups(channels, batch))](
            x, values, scale, *_tables(rows, columns, _kept(x), x.device), y, batch, length,
            PRECISION=precision(), **_shape(rows, columns),
        )  # fmt: skip
    return y


@product.register_fake
def _like(values: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_monarch)
def _product_operations(values, scale, x, **rest) -> int:
    return 2 * _transform_operations(values, x)


def _transform_operations(values: tuple[int, ...], x: tuple[int, int, int]) -> int:
    """Of one transform of every sequence: two real products from the left, and four from the right."""
    rows, columns = values[2:]
    return x[0] * x[1] * rows * columns * (4 * rows + 8 * columns)


def _kept(x: Tensor) -> torch.dtype:
    """The dtype of products on tensor cores."""
    return torch.float32 if x.dtype == torch.float32 else torch.float16


def _groups(channels: int, batch: int) -> int:
    """Programs a channel, which share its sequences: some 2,048 in all keep a GPU busy."""
    return min(batch, triton.cdiv(2048, channels))


@triton.jit
def _scaled(x, token, length, dtype: tl.constexpr):
    """A sequence (ROWS, COLUMNS) divided by a power of two, and that."""
    values = tl.load(x + token, mask=token < length, other=0.0).to(tl.float32)
    scale = _power_of_two(tl.max(tl.abs(values)))
    return (values / scale).to(dtype), scale


@triton.jit
def _product(
    x, values, scale, left, factors, right, y, batch, length,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values += channel * 2 * ROWS * COLUMNS
    for sequence in range(tl.program_id(1), batch, tl.num_programs(1)):
        start = (channel * batch + sequence) * length
        inputs, size = _scaled(x + start, token, length, left.dtype.element_ty)
        a, b = _transform(inputs, left, factors, right, ROWS, COLUMNS, PRECISION)
        real, imaginary = _pair(values, ROWS, COLUMNS)
        a, b = a * real - b * imaginary, a * imaginary + b * real
        outputs = _inverse(a, b, left, factors, right, ROWS, COLUMNS, PRECISION) * (size * tl.load(scale + channel))
        tl.store(y + start + token, outputs.to(y.dtype.element_ty), mask=token < length)


@torch.library.custom_op("mixerzoo::toeplitz_monarch_backward", mutates_args=())
def gradients(values: Tensor, scale: Tensor, dy: Tensor, x: Tensor, lowest: int, highest: int) -> tuple[Tensor, Tensor]:
    """The gradients by the coefficients of lags lowest .. highest, (D, lags) in float32, and by x, (D, B, N)."""
    dt, dx = _empty_gradients(values, scale, dy, x, lowest, highest)
    channels, batch, length = x.shape
    rows, columns = values.shape[2:]
    groups = _groups(channels, batch)
    sums = x.new_empty(channels, groups, 2, rows, columns, dtype=torch.float32)
    shape = _shape(rows, columns)
    with torch.cuda.device_of(x):
        _gradients[(channels, groups)](
            x, dy, values, scale, *_tables(rows, columns, _kept(x), x.device), dx, sums, batch, length,
            PRECISION=precision(), **shape,
        )  # fmt: skip
        _gradient[(channels,)](
            sums, *_tables(rows, columns, torch.float32, x.device), dt, groups, dt.shape[1], lowest,
            BELOW=lowest < 0, **shape,
        )  # fmt: skip
    return dt, dx


@gradients.register_fake
def _empty_gradients(
    values: Tensor, scale: Tensor, dy: Tensor, x: Tensor, lowest: int, highest: int
) -> tuple[Tensor, Tensor]:
    return x.new_zeros(len(x), highest - lowest + 1, dtype=torch.float32), torch.empty_like(x)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_monarch_backward)
def _gradients_operations(values, scale, dy, x, lowest: int, highest: int, **rest) -> int:
    return 3 * _transform_operations(values, x)


@triton.jit
def _gradients(
    x, dy, values, scale, left, factors, right, dx, sums, batch, length,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dx, and the sum of F dy conj(F x) over the sequences of this program."""
    channel = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    values += channel * 2 * ROWS * COLUMNS
    real_sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    imaginary_sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for sequence in range(tl.program_id(1), batch, tl.num_programs(1)):
        start = (channel * batch + sequence) * length
        inputs, size_of_x = _scaled(x + start, token, length, left.dtype.element_ty)
        a, b = _transform(inputs, left, factors, right, ROWS, COLUMNS, PRECISION)
        a, b = a.to(left.dtype.element_ty), b.to(left.dtype.element_ty)  # in half the registers
        inputs, size = _scaled(dy + start, token, length, left.dtype.element_ty)
        c, d = _transform(inputs, left, factors, right, ROWS, COLUMNS, PRECISION)
        real_sums += (c * a + d * b) * (size * size_of_x)
        imaginary_sums += (d * a - c * b) * (size * size_of_x)
        real, imaginary = _pair(values, ROWS, COLUMNS)
        c, d = c * real + d * imaginary, d * real - c * imaginary
        outputs = _inverse(c, d, left, factors, right, ROWS, COLUMNS, PRECISION) * (size * tl.load(scale + channel))
        tl.store(dx + start + token, outputs.to(dx.dtype.element_ty), mask=token < length)
    target = sums + (channel * tl.num_programs(1) + tl.program_id(1)) * 2 * ROWS * COLUMNS + token
    tl.store(target, real_sums)
    tl.store(target + ROWS * COLUMNS, imaginary_sums)


@triton.jit
def _gradient(
    sums, left, factors, right, dt, groups, lags, lowest,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BELOW: tl.constexpr,
):  # fmt: skip
    """The gradient by the coefficients, from the sums of all groups."""
    channel = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    real = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    imaginary = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for group in range(groups):
        a, b = _pair(sums + (channel * groups + group) * 2 * ROWS * COLUMNS, ROWS, COLUMNS)
        real, imaginary = real + a, imaginary + b
    root = tl.sqrt(ROWS * COLUMNS * 1.0)
    place = token - lowest
    above = _inverse(real, imaginary, left, factors, right, ROWS, COLUMNS, "tf32x3")
    tl.store(dt + channel * lags + place, above * root, mask=place < lags)
    if BELOW:
        place -= ROWS * COLUMNS
        below = _inverse(imaginary, -real, left, factors, right, ROWS, COLUMNS, "tf32x3")
        tl.store(dt + channel * lags + place, below * root, mask=(place >= 0) & (place < -lowest))
