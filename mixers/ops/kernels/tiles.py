# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (a jitted function has other arguments than its definition)
"""The Toeplitz product in tiles of the matrix, built on the fly from a table of its coefficients, for tensor cores.

With i = W I + r and j = W J + s, the lag i - j is W (I - J) + r - s: a tile depends on the difference of its blocks
alone, and multiplies that pair of blocks of every sequence at once.

    y[b, W I + r]         = sum over J, s    of t[W (I - J) + r - s] x[b, W J + s]
    gradient of t[W K + k] = sum over r, b, I of dy[b, W I + r] x[b, W I + r - W K - k]

Shapes: B batch, N length, D channels, W width of a tile; x and y (D, B, N), contiguous; t (D, lags), lags from
`lowest` on.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

WIDTH = 64
"""Tokens a block, and rows and columns of a tile."""

MARGIN = 2 * WIDTH
"""Zeros at both ends of a table: tiles at the rim of the matrix reach over its coefficients."""

CHANNELS, LAGS = 32, 128
"""What one program of `table` writes."""


@torch.library.custom_op("mixerzoo::toeplitz_table", mutates_args=())
def table(coefficients: Tensor, lowest: int, dtype: torch.dtype, transposed: bool) -> tuple[Tensor, Tensor]:
    """What the product reads: the coefficients (D, lags) of lags from `lowest` on between zeros, (D, 2, L), and what
    each channel is to be multiplied by (D,), since the largest of each is brought below 1 in float16.

    Lag 0 stands at an even place. The second copy stands one place further on, so that columns of a tile that begin at
    an odd place of the first begin at an even one of the second, and all are read in pairs of values. If
    `transposed`, coefficients are read backwards, and `lowest` is the lowest lag of the transposed matrix.
    """
    values, scale = _empty_table(coefficients, lowest, dtype, transposed)
    scaled = dtype == torch.float16
    if scaled:
        largest = torch.linalg.vector_norm(coefficients, ord=torch.inf, dim=1)
        scale.copy_(torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent))
    channels, lags = coefficients.shape
    grid = (triton.cdiv(values.shape[-1], LAGS), triton.cdiv(channels, CHANNELS))
    with torch.cuda.device_of(coefficients):
        _table[grid](
            coefficients, scale, values, channels, lags, values.shape[-1], *coefficients.stride(), _start(lowest),
            CHANNELS=CHANNELS, LAGS=LAGS, SCALED=scaled, TRANSPOSED=transposed,
        )  # fmt: skip
    return values, scale


@table.register_fake
def _empty_table(coefficients: Tensor, lowest: int, dtype: torch.dtype, transposed: bool) -> tuple[Tensor, Tensor]:
    channels, lags = coefficients.shape
    size = -(-(lags + 2 * MARGIN + 2) // 16) * 16
    return coefficients.new_empty(channels, 2, size, dtype=dtype), coefficients.new_empty(channels, dtype=torch.float32)


def _start(lowest: int) -> int:
    """Where in a table the first coefficient stands."""
    return MARGIN + lowest % 2


@triton.jit
def _table(
    coefficients, scale, values, channels, lags, size, channel_stride, lag_stride, start,
    CHANNELS: tl.constexpr, LAGS: tl.constexpr, SCALED: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * LAGS + tl.arange(0, LAGS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    divisor = tl.full((CHANNELS,), 1.0, tl.float32)
    if SCALED:
        divisor = tl.load(scale + channel, mask=known, other=1.0)
    elif tl.program_id(0) == 0:
        tl.store(scale + channel, divisor, mask=known)
    for copy in tl.static_range(2):
        lag = place - start - copy
        inside = known[:, None] & ((lag >= 0) & (lag < lags))[None, :]
        if TRANSPOSED:
            lag = lags - 1 - lag
        source = coefficients + channel.to(tl.int64)[:, None] * channel_stride + lag.to(tl.int64)[None, :] * lag_stride
        entries = tl.load(source, mask=inside, other=0.0) / divisor[:, None]
        target = values + (2 * channel + copy).to(tl.int64)[:, None] * size + place[None, :]
        tl.store(target, entries.to(values.dtype.element_ty), mask=known[:, None] & (place < size)[None, :])


@torch.library.custom_op("mixerzoo::toeplitz_tiles", mutates_args=())
def product(values: Tensor, scale: Tensor, x: Tensor, lowest: int, highest: int) -> Tensor:
    """y (D, B, N) from what `table` made of the coefficients of lags lowest .. highest, and x (D, B, N)."""
    y = torch.empty_like(x)
    channels, batch, length = x.shape
    blocks = triton.cdiv(length, WIDTH)
    sequences = min(triton.next_power_of_2(batch), 64)
    together = min(triton.next_power_of_2(blocks), 32, 128 // sequences)  # neighbours, which share most tiles
    sequences = max(sequences, 16 // together)  # a matrix product has 16 rows at least
    grid = (triton.cdiv(blocks, together) * triton.cdiv(batch, sequences), channels)
    with torch.cuda.device_of(x):
        _product[grid](
            values, scale, x, y, batch, length, blocks, values.shape[-1], _start(lowest) - lowest,
            -((WIDTH - 1 - lowest) // WIDTH), (highest + WIDTH - 1) // WIDTH,
            WIDTH=WIDTH, TOGETHER=together, SEQUENCES=sequences, PRECISION=precision(), num_warps=4, num_stages=3,
        )  # fmt: skip
    return y


@product.register_fake
def _like(values: Tensor, scale: Tensor, x: Tensor, lowest: int, highest: int) -> Tensor:
    return torch.empty_like(x)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_tiles)
def _product_operations(values, scale, x, lowest: int, highest: int, **rest) -> int:
    return _operations(x, lowest, highest)


@triton.jit
def _product(
    values, scale, x, y, batch, length, blocks, size, origin, least, most,
    WIDTH: tl.constexpr, TOGETHER: tl.constexpr, SEQUENCES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """TOGETHER blocks of SEQUENCES sequences of one channel: rows (sequence, block) by tiles (s, r), for the
    differences I - J from `least` to `most`. `origin` is the place of lag 0 in a table of L = `size`."""
    channel = tl.program_id(1).to(tl.int64)
    groups = tl.cdiv(batch, SEQUENCES)
    # the last blocks first: in a causal product they take the longest
    first = (tl.num_programs(0) // groups - 1 - tl.program_id(0) // groups) * TOGETHER
    rows = tl.arange(0, TOGETHER * SEQUENCES)
    block = first + rows % TOGETHER
    sequence = (tl.program_id(0) % groups) * SEQUENCES + rows // TOGETHER
    start_of_row = (channel * batch + sequence) * length
    place = tl.arange(0, WIDTH)
    parity = place % 2
    columns = values + (2 * channel + parity) * size

    sums = tl.zeros((TOGETHER * SEQUENCES, WIDTH), dtype=tl.float32)
    begin, end = tl.maximum(least, first - blocks + 1), tl.minimum(most, first + TOGETHER - 1)
    for difference in range(begin, end + 1):
        source = block - difference
        token = (source * WIDTH)[:, None] + place[None, :]
        inside = ((source >= 0) & (sequence < batch))[:, None] & (token < length)
        inputs = tl.load(x + start_of_row[:, None] + token, mask=inside, other=0.0)
        column = tl.multiple_of(origin + difference * WIDTH - (place - parity), 2)
        tile = tl.load(columns[:, None] + column[:, None] + place[None, :])
        sums = tl.dot(inputs, tile, sums, input_precision=PRECISION)

    token = (block * WIDTH)[:, None] + place[None, :]
    inside = ((sequence < batch) & (block < blocks))[:, None] & (token < length)
    sums *= tl.load(scale + channel)
    tl.store(y + start_of_row[:, None] + token, sums.to(y.dtype.element_ty), mask=inside)


@torch.library.custom_op("mixerzoo::toeplitz_tiles_gradient", mutates_args=())
def gradient(dy: Tensor, x: Tensor, lowest: int, highest: int) -> Tensor:
    """The gradient (D, lags) in float32 by the coefficients of lags lowest .. highest, from dy and x (D, B, N)."""
    channels, batch, length = x.shape
    halves = x.new_empty(2, channels, highest - lowest + 1, dtype=torch.float32)
    least, most = lowest // WIDTH, highest // WIDTH + 1
    with torch.cuda.device_of(x):
        _gradient[(most - least + 1, channels)](
            dy, x, halves, batch, length, triton.cdiv(length, WIDTH), least, lowest, highest,
            WIDTH=WIDTH, ROWS=32, PRECISION=precision(), num_warps=4, num_stages=3,
        )  # fmt: skip
    return halves.sum(0)


@gradient.register_fake
def _lags(dy: Tensor, x: Tensor, lowest: int, highest: int) -> Tensor:
    return x.new_empty(len(x), highest - lowest + 1, dtype=torch.float32)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_tiles_gradient)
def _gradient_operations(dy, x, lowest: int, highest: int, **rest) -> int:
    return _operations(x, lowest, highest)


def _operations(shape: tuple[int, int, int], lowest: int, highest: int) -> int:
    """A multiplication and an addition for every entry of every matrix and every sequence."""
    channels, batch, length = shape
    below, above = max(lowest, 1 - length), min(highest, length - 1)
    return 2 * channels * batch * sum(length - abs(lag) for lag in range(below, above + 1))


@triton.jit
def _gradient(
    dy, x, halves, batch, length, blocks, least, lowest, highest,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All pairs of blocks of one difference K: dy^T x over them, (r, s), whose diagonals are the lags W K + r - s.

    Those from W K on are summed into the first half, those below into the second: every lag is once in each.
    """
    difference = least + tl.program_id(0)
    channel = tl.program_id(1).to(tl.int64)
    first, count = tl.maximum(difference, 0), blocks - tl.abs(difference)
    rows, place = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    start = channel * batch * length

    sums = tl.zeros((WIDTH, WIDTH), dtype=tl.float32)
    for pair in range(0, batch * count, ROWS):
        sequence = (pair + rows) // count
        block = first + (pair + rows) % count
        row = start + sequence.to(tl.int64) * length
        later = (block * WIDTH)[:, None] + place[None, :]
        earlier = later - difference * WIDTH
        known = (sequence < batch)[:, None]
        outputs = tl.load(dy + row[:, None] + later, mask=known & (later < length), other=0.0)
        inputs = tl.load(x + row[:, None] + earlier, mask=known & (earlier < length), other=0.0)
        sums = tl.dot(tl.trans(outputs), inputs, sums, input_precision=PRECISION)

    lags = highest - lowest + 1
    for half in tl.static_range(2):
        lag = difference * WIDTH - half * WIDTH + place  # one a diagonal
        column = place[:, None] - place[None, :] + half * WIDTH  # s = r - (lag - W K)
        inside = (column >= 0) & (column < WIDTH)
        diagonals = tl.gather(sums, tl.where(inside, column, 0), axis=1)
        totals = tl.sum(tl.where(inside, diagonals, 0.0), axis=0)
        target = halves + (half * tl.num_programs(1) + channel) * lags + lag - lowest
        tl.store(target, totals, mask=(lag >= lowest) & (lag <= highest))


def precision() -> str:
    """How matrix products round their float32 inputs: as torch is set to."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
