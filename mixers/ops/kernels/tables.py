"""What the kernels of `monarch.py` read beside x, as it lies in registers: factors, and the matrices of a transform of
P = R S tokens."""

import functools
import math
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tables:
    """The matrix from the left, its transpose, factors, the matrices from the right and their transposes; and sqrt(P)
    over the third power of what a transform by them is too large by."""

    left: Tensor
    back: Tensor
    factors: Tensor
    right: Tensor
    root: float


def two_steps(rows: int, narrow: bool) -> bool:
    """Whether the matrix from the left is split: x and y are rounded worse than what stands between the steps."""
    return rows > 64 and narrow


@functools.cache
def tables(rows: int, columns: int, narrow: bool, device: torch.device) -> Tables:
    """Kept; a first call must come before a CUDA graph is captured, like those of all that is copied to a device."""
    split = two_steps(rows, narrow)
    g, a = _frequencies(rows, split).reshape(-1, 1), numpy.arange(rows)
    d, chunks = numpy.arange(16)[:, None], columns // 16
    left, back, left_size = _two_steps(rows) if split else _one_step(_waves((4 * g + 1) * a, 4 * rows))
    right, right_size = _rounded(numpy.stack([_waves(d * (k + chunks * d.T), columns) for k in range(chunks)]))
    factors = _waves((4 * g + 1) * numpy.arange(columns), 4 * rows * columns) / chunks**0.5
    root, right_size = math.sqrt(rows * columns), right_size / chunks**0.5

    def on_device(table: numpy.ndarray) -> Tensor:
        return torch.from_numpy(numpy.ascontiguousarray(table)).to(device)

    return Tables(
        left=on_device(left),
        back=on_device(back),
        factors=on_device(_factors(factors, narrow)),
        right=on_device(_right_operands(numpy.concatenate([right, right.mT], axis=2))),
        root=root / (left_size * right_size * root) ** 3,
    )


def _frequencies(rows: int, split: bool) -> numpy.ndarray:
    """g by tiles and the 16 rows of each."""
    g = numpy.arange(rows)
    return g.reshape(16, -1).T if split else g.reshape(-1, 16)


def _one_step(matrix: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, float]:
    """The tables of the matrix from the left, in two parts, and of its transpose, and their size."""
    rounded, size = _rounded(matrix)
    return _pairs_of_operands(rounded), _pairs_of_operands(rounded[0].mT), size


def _two_steps(rows: int) -> tuple[numpy.ndarray, numpy.ndarray, float]:
    """The tables of the outer matrix with the inner ones behind it, of the transposes of all, and their size."""
    count, q = rows // 16, numpy.arange(16)
    u = numpy.arange(count)[:, None]
    (outer, _), outer_size = _rounded(_waves((4 * u + 1) * u.T, 4 * count))
    (inner, _), inner_size = _rounded(_waves((4 * _frequencies(rows, True)[..., None] + 1) * q, 4 * rows))
    both = outer.reshape(2, -1, min(count, 16), count).swapaxes(0, 1).reshape(2 * count, count)  # parts in turns
    both = numpy.pad(both, [(0, 0), (0, max(16 - count, 0))])
    table, back = (
        numpy.concatenate([_left_operands(first).ravel(), _pairs_of_operands(second.swapaxes(0, 1)).ravel()])
        for first, second in ((both, inner), (both.T, inner.mT))
    )
    return table, back, outer_size * inner_size


def _waves(turns: numpy.ndarray, period: int) -> numpy.ndarray:
    return numpy.exp(-2j * math.pi * (turns % period) / period)


def _pairs(values: numpy.ndarray, axis: int) -> numpy.ndarray:
    return numpy.stack([numpy.real(values), numpy.imag(values)], axis)


def _rounded(matrix: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """(2 parts, 2, ..., n, n): matrices in float16, and what that leaves, times about 1 / sqrt(n); and this number: of
    float16's near it, the one by which entries round least."""
    pairs = _pairs(matrix, 0)
    values = numpy.unique(numpy.abs(pairs).round(12))
    sizes = numpy.arange(0x7C00, dtype=numpy.uint16).view(numpy.float16).astype(float)  # all of them
    sizes = sizes[abs(sizes * matrix.shape[-1] ** 0.5 - 1.05) < 0.35][:, None]
    size = sizes[numpy.square((values * sizes).astype(numpy.float16) / sizes - values).sum(1).argmin(), 0]
    rounded = (pairs * size).astype(numpy.float16)
    return numpy.stack([rounded, (pairs * size - rounded).astype(numpy.float16)]), float(size)


def _factors(values: numpy.ndarray, narrow: bool) -> numpy.ndarray:
    """(16 m, 8 n) as the 32 lanes of m tiles and n pieces of 8 columns read them: cosines of two columns and their
    sines, of row lane / 4 and of 8 more, which a lane finds together in float16 and apart in float32."""
    rows, columns = values.shape
    split = _pairs(values.reshape(rows // 16, 2, 8, columns // 8, 4, 2), -2)
    if narrow:
        return split.transpose(0, 3, 2, 4, 1, 5, 6).astype(numpy.float16)
    return split.transpose(0, 3, 1, 2, 4, 5, 6).astype(numpy.float32)


def _left_operands(matrix: numpy.ndarray) -> numpy.ndarray:
    """(..., 16 m, 16 n) as (..., m, n, 32 lanes, 4 words, 2), whose words have rows lane / 4 and 8 more, columns
    2 (lane % 4) and 8 more."""
    *before, rows, columns = matrix.shape
    split = matrix.reshape(*before, rows // 16, 2, 8, columns // 16, 2, 4, 2)
    order = (0, 3, 2, 5, 4, 1, 6)
    return split.transpose(*range(len(before)), *(len(before) + axis for axis in order))


def _pairs_of_operands(matrix: numpy.ndarray) -> numpy.ndarray:
    """(..., 2, 16 m, 16 n) as (..., m, n, 2, 32 lanes, 4 words, 2)."""
    return numpy.moveaxis(_left_operands(matrix), -8, -6)


def _right_operands(matrices: numpy.ndarray) -> numpy.ndarray:
    """(parts, 2, matrices, 16, 16) as (parts, matrices, 2, 32 lanes, 4 words, 2), whose words have columns lane / 4 and
    8 more, rows 2 (lane % 4) and 8 more."""
    parts, _, count, _, _ = matrices.shape
    return matrices.reshape(parts, 2, count, 2, 4, 2, 2, 8).transpose(0, 2, 1, 7, 4, 6, 3, 5)
