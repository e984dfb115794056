"""The Toeplitz product of up to 32,768 tokens by transforms on tensor cores: one kernel, which with the conjugate gives
the gradient by x, and two for that by the coefficients, or one for single sequences. They are CUDA C++, in the folder
`cuda`.

With w_f = exp(-2 pi i (f + 1/4) / P), f < P, w_f^P = -i: what wraps around P tokens is imaginary. So

    y = Re F^H (C F x),    (F x)_f = sum over j of w_f^j x_j / sqrt(P),    C_f = sum over all lags l of w_f^l t[l]

is the product of up to P tokens, without the zeros that other transforms need beside them. With P = R S, j = S a + b
and f = g + R h (a, g < R; b, h < S),

    (F x)[g, h] = sum over b of e(b h / S) e(b (g + 1/4) / P) sum over a of e(a (g + 1/4) / R) x[a, b]

where e(z) = exp(-2 pi i z): a matrix from the left, factors, a matrix from the right, as in Monarch matrices (Dao et
al., ICML 2022, https://arxiv.org/abs/2204.00595) and FlashFFTConv (Fu et al., 2023, https://arxiv.org/abs/2311.05908).
With C = S / 16 chunks c of 16 columns, b = 16 c + d and h = k + C l (k < C; l < 16), the one from the right is a sum
over chunks, whose factors for C = 1, 2, 4 are 1, -1, i and -i, and a matrix (16, 16) for each k:

    sum over b of e(b h / S) v[b] = sum over d of e(d (k + C l) / S) sum over c of e(c k / C) v[16 c + d]

The one from the left goes in two steps where R is more than 64 and numbers are bfloat16, as `left.cuh` says.

The gradients are dx = Re F^H (conj(C) F dy), and by t the real part of sqrt(P) F^H (F dy conj(F x)); by a lag l < 0 it
is the imaginary part at P + l, since w_f^(P + l) = -i w_f^l. Products are of float16 numbers, whose sequences and
coefficients are scaled by powers of two. Sums are in float32; for bfloat16 all but the last ones are in float16, two in
a word, which halves registers and arithmetic.
Shapes: B batch, N length, D channels; x and y (D, B, N), contiguous; t (D, lags), lags from `lowest` on; frequencies
(D, R / 16, S / 16, 2, 32, 4, 2) as the kernels lay them, by tiles of g, k, and halves of l.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mixers.ops.kernels.program import Macros, kernel
from mixers.ops.kernels.tables import Tables, tables, two_steps

SIDES = ((32, 16), (32, 32), (32, 64), (64, 64), (128, 64), (256, 64), (512, 64))
"""R and S; more than 64 columns would not stay in registers."""

HEADROOM = 8.0
"""At least half the sum of the sizes of scaled coefficients. Products with the transforms of numbers below 2 are up to
4 HEADROOM sqrt(P), and on the way back twice as large until factors make them smaller, times up to 1.5 as tables are
not quite unitary: float16 ends at 65,504."""

NUMBERS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}


def sides(length: int) -> tuple[int, int]:
    """R and S for sequences of up to `length` tokens."""
    return next((rows, columns) for rows, columns in SIDES if rows * columns >= length)


@dataclass(frozen=True)
class Form:
    """What the kernels are compiled for."""

    rows: int
    columns: int
    dtype: torch.dtype
    aligned: bool
    wide: bool = False
    """Whether y of 16 bits is to be float32."""

    @property
    def two_steps(self) -> bool:
        """Whether the matrix from the left is split."""
        return two_steps(self.rows, self.narrow)

    @property
    def in_place(self) -> bool:
        """Whether what a product makes of x takes its place on chip, as it may where a warp takes two tiles."""
        return self.product_warps == self.rows // 32

    @property
    def narrow(self) -> bool:
        """Whether numbers have float16 between steps, and not float32: bfloat16 is less exact than either."""
        return self.dtype == torch.bfloat16

    @property
    def sequences(self) -> int:
        """A block of the product takes so many."""
        return 64 // self.columns

    @property
    def product_warps(self) -> int:
        """Warps of a block where each takes two tiles, or more of wide numbers."""
        return self.rows // 32 if self.narrow else min(self.rows // 32, 4 if self.rows < 512 else 8)

    @property
    def correlate_warps(self) -> int:
        """Warps of a block where each holds the sums of one tile."""
        return min(self.rows // 16, 8)

    @property
    def correlate_blocks(self) -> int:
        """So many take a channel's tiles."""
        return self.rows // 16 // self.correlate_warps

    @property
    def spectrum_warps(self) -> int:
        """Warps of a block that takes all tiles of a channel's coefficients."""
        return self.rows // 32 if self.narrow else min(self.rows // 16, 4 if self.rows < 512 else 8)

    def resident(self, name: str) -> int:
        """Warps of a kernel that a multiprocessor is to hold: with more, their numbers would not stay in registers."""
        if not self.narrow:
            return {"spectrum": 12, "product": 12, "single": 8, "correlate": 8, "restore": 12}[name]
        if name == "single":
            return 12 if self.rows < 256 else 16
        return 8 if name == "correlate" and self.columns == 64 else 16

    @property
    def operations(self) -> int:
        """Multiplications and additions of one transform: of two real products from the left, or two and then four, and
        four from the right."""
        left = 4 * self.rows // 16 + 8 * 16 if self.two_steps else 4 * self.rows
        return self.rows * self.columns * (left + 8 * 16)

    def block(self, name: str) -> tuple[int, int]:
        """Threads of a kernel's block, and bytes of the matrices (R, 64) of float16 that it holds on chip."""
        warps, matrices = {
            "spectrum": (self.spectrum_warps, 2 if self.two_steps else 1),
            "product": (self.product_warps, 2 if self.in_place else 3),
            "single": (self.product_warps, 2 if self.in_place else 3),
            "correlate": (self.correlate_warps, 2 if self.two_steps else 1),
            "restore": (self.product_warps, 2),
        }[name]
        return 32 * warps, 128 * self.rows * matrices

    def tables(self, device: torch.device) -> Tables:
        """What the kernels read."""
        return tables(self.rows, self.columns, self.narrow, device)

    def macros(self, name: str) -> Macros:
        """What a kernel is compiled with."""
        read = self.tables(torch.device("cpu"))
        macros = {
            "ROWS": self.rows,
            "COLUMNS": self.columns,
            "NUMBER": NUMBERS[self.dtype],
            "ALIGNED": int(self.aligned),
            "WIDE_Y": int(self.wide or self.dtype == torch.float32),
            "IN_PLACE": int(self.in_place),
            "PRODUCT_WARPS": self.product_warps,
            "CORRELATE_WARPS": self.correlate_warps,
            "SPECTRUM_WARPS": self.spectrum_warps,
            "RESIDENT_WARPS": self.resident(name),
            "HEADROOM": f"{HEADROOM}f",
            "ROOT": f"{read.root!r}f",
        }
        return tuple((key, str(value)) for key, value in macros.items())


@torch.library.custom_op("mixerzoo::toeplitz_spectrum", mutates_args=())
def spectrum(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """C / scale in float16 and the scale (D,), of coefficients (D, lags) for up to `length` tokens of `dtype`."""
    values, scale = _empty_spectrum(coefficients, lowest, length, dtype)
    channels, lags = coefficients.shape
    read_fours = coefficients.data_ptr() % 16 == 0 and coefficients.stride(0) % 4 == 0 and coefficients.stride(1) == 1
    form = Form(*sides(length), dtype, read_fours and lowest % 4 == 0)
    read = form.tables(coefficients.device)
    kernel("spectrum", form, coefficients.device)(
        channels,
        coefficients, read.left, read.factors, read.right, values, scale, *coefficients.stride(), lags, lowest,
    )  # fmt: skip
    return values, scale


@spectrum.register_fake
def _empty_spectrum(coefficients: Tensor, lowest: int, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    channels, (rows, columns) = len(coefficients), sides(length)
    values = coefficients.new_empty(channels, rows // 16, columns // 16, 2, 32, 4, 2, dtype=torch.float16)
    return values, coefficients.new_empty(channels)


@torch.library.custom_op("mixerzoo::toeplitz_monarch", mutates_args=())
def product(values: Tensor, scale: Tensor, x: Tensor, transposed: bool, silu: bool, wide: bool) -> Tensor:
    """y (D, B, N) from what `spectrum` made of the coefficients, and x (D, B, N), or SiLU(x); by the transposed matrix
    if asked, and in float32 where `wide`."""
    y = _like(values, scale, x, transposed, silu, wide)
    channels, batch, length = x.shape
    form = _form_of(values, x.dtype, _aligned(x), wide)
    read = form.tables(x.device)
    kernel("product", form, x.device)(
        channels * -(-batch // form.sequences),
        x, values, scale, read.left, read.back, read.factors, read.right, y, batch, length, transposed, silu,
    )  # fmt: skip
    return y


@product.register_fake
def _like(values: Tensor, scale: Tensor, x: Tensor, transposed: bool, silu: bool, wide: bool) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32 if wide else x.dtype)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_monarch, get_raw=True)
def _product_operations(values: Tensor, scale: Tensor, x: Tensor, *rest, **more) -> int:
    return 2 * x.shape[0] * x.shape[1] * _form_of(values, x.dtype, True, False).operations


def _form_of(values: Tensor, dtype: torch.dtype, aligned: bool, wide: bool) -> Form:
    """By which a product is taken."""
    return Form(16 * values.shape[1], 16 * values.shape[2], dtype, aligned, wide)


@torch.library.custom_op("mixerzoo::toeplitz_monarch_gradient", mutates_args=())
def gradient(dy: Tensor, x: Tensor, lowest: int, highest: int, silu: bool) -> Tensor:
    """The gradient (D, lags) in float32 by the coefficients of lags lowest .. highest, from dy and x (D, B, N), or
    SiLU(x)."""
    dt = _lags(dy, x, lowest, highest, silu)
    channels, batch, length = x.shape
    form = Form(*_sides_of(lowest, highest), x.dtype, _aligned(x) and _aligned(dy))
    read = form.tables(x.device)
    parts = 1 + (lowest < 0)
    if batch == 1 and form.sequences == 1:  # no block of columns is shared
        kernel("single", form, x.device)(
            channels * parts,
            x, dy, read.left, read.back, read.factors, read.right, dt, length, dt.shape[1], lowest, silu,
        )  # fmt: skip
        return dt
    tiles, chunks = form.rows // 16, form.columns // 16
    sums = x.new_empty(channels, tiles, chunks, 2, 32, 4, 2, dtype=torch.float16)
    sizes = x.new_empty(channels, tiles, dtype=torch.float32)
    kernel("correlate", form, x.device)(
        channels * form.correlate_blocks,
        x, dy, read.left, read.factors, read.right, sums, sizes, batch, length, silu,
    )  # fmt: skip
    kernel("restore", form, x.device)(
        channels * parts,
        sums, sizes, read.back, read.factors, read.right, dt, dt.shape[1], lowest,
    )  # fmt: skip
    return dt


@gradient.register_fake
def _lags(dy: Tensor, x: Tensor, lowest: int, highest: int, silu: bool) -> Tensor:
    return x.new_empty(len(x), highest - lowest + 1, dtype=torch.float32)


@register_flop_formula(torch.ops.mixerzoo.toeplitz_monarch_gradient, get_raw=True)
def _gradient_operations(dy: Tensor, x: Tensor, lowest: int, highest: int, silu: bool, **rest) -> int:
    return 2 * x.shape[0] * x.shape[1] * Form(*_sides_of(lowest, highest), x.dtype, True).operations


def _sides_of(lowest: int, highest: int) -> tuple[int, int]:
    return sides(max(highest, -lowest) + 1)


def _aligned(x: Tensor) -> bool:
    """Whether sequences (D, B, N) can be read 8 tokens and 16 bytes at a time."""
    return x.data_ptr() % 16 == 0 and x.shape[2] % 8 == 0
