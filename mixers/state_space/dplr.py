"""A diagonal plus low-rank state space, held by the bilinear rule (S4, https://arxiv.org/abs/2111.00396, section 3).

x' = A x + B u, y = C x for A = diag(lambda) - P P*, in conjugate pairs of which one of each is kept.
Shapes: B batch, N length, D channels, S / 2 pairs, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.contract import State

BLOCK, BLOCK_ON_CUDA = 2**19, 2**24
"""How many denominators are held at once: few enough for the cache of a core, and enough to keep a GPU busy."""


@dataclass(frozen=True)
class LowRank:
    """s_i = Ad s_{i-1} + Bd x_i, y_i = 2 Re(C s_i), Ad = (1 - dt/2 A)^-1 (1 + dt/2 A), Bd = (1 - dt/2 A)^-1 dt B.

    rate is dt lambda, column P sqrt(dt), drive dt B, (D, S/2); readout C (kernels, D, S/2); all complex.
    """

    rate: Tensor
    column: Tensor
    drive: Tensor
    readout: Tensor

    def kernel(self, length: int, dtype: torch.dtype) -> Tensor:
        """C Ad^l Bd, (kernels, N, D), from its values at M >= N roots of unity, M a power of two, taken in `dtype`."""
        size = 1 << max(length - 1, 1).bit_length()
        rows = _parts(self.readout.conj())  # (kernels, D, S): y = 2 rows . (Re s, Im s)
        truncated = rows - _times_power(rows, self._matrix(), size)  # C (1 - Ad^M)
        spectrum = _generating_function(self, _pairs(truncated).conj(), size, dtype)
        return torch.fft.irfft(spectrum, n=size)[..., :length].transpose(-1, -2)

    def start(self, batch_size: int) -> State:
        return {"sums": self.rate.new_zeros(batch_size, *self.rate.shape)}

    def after(self, x: Tensor) -> State:
        """In blocks of about sqrt(N) tokens: inside a block by a table of Ad^c Bd, from block to block by Ad^C."""
        block = 1 << (math.isqrt(max(x.shape[1] - 1, 0)).bit_length())
        table, power = _parts(self._implicit(self.drive))[:, None], self._matrix()  # (D, 1, S), (D, S, S)
        while table.shape[1] < block:
            table, power = torch.cat([table, table @ power.mT], dim=1), power @ power
        count = -(-x.shape[1] // block)
        blocks = F.pad(x, (0, 0, count * block - x.shape[1], 0)).unflatten(1, (count, block))  # zeros in front
        inside = torch.einsum("bncd,dcs->nbds", blocks.to(table.dtype), table.flip(1))
        sums = inside.new_zeros(inside.shape[1:])
        for part in inside:
            sums = torch.einsum("dst,bdt->bds", power, sums) + part
        return {"sums": _pairs(sums)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        sums = self._transition(state["sums"]) + self._implicit(self.drive) * x[..., None]
        return 2 * (self.readout[0] * sums).sum(-1).real, {"sums": sums}

    def _implicit(self, vector: Tensor) -> Tensor:
        """(1 - dt/2 A)^-1 vector (..., D, S/2): Woodbury's identity, with the conjugates' part of P*."""
        inverse = 1 / (1 - self.rate / 2)
        column = inverse * self.column
        known = inverse * vector
        inner = (self.column.conj() * known).sum(-1, keepdim=True).real
        return known - column * inner / (1 + (self.column.conj() * column).sum(-1, keepdim=True).real)

    def _transition(self, vector: Tensor) -> Tensor:
        """Ad vector = 2 (1 - dt/2 A)^-1 vector - vector."""
        return 2 * self._implicit(vector) - vector

    def _matrix(self) -> Tensor:
        """Ad as a real matrix (D, S, S) on real and imaginary parts."""
        width = self.rate.shape[-1]
        unit = _pairs(torch.eye(2 * width, dtype=self.rate.real.dtype, device=self.rate.device))[:, None]
        return _parts(self._transition(unit)).permute(1, 2, 0)


def _generating_function(system: LowRank, readout: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """sum over l < M of K_l z^l at z = exp(-i theta), theta = 2 pi j / M, j <= M / 2: (kernels, D, F).

    readout (1 - z Ad)^-1 Bd = readout ((1 - z) - (1 + z) dt/2 A)^-1 dt B has no pole on the circle, that of z = -1
    neither. Divided by exp(-i theta/2), 1 - z is 2 i sin(theta/2) and 1 + z is 2 cos(theta/2).
    """
    half = torch.arange(size // 2 + 1, device=readout.device, dtype=torch.float64) * (math.pi / size)
    left = torch.cat([readout, system.column.conj()[None]])  # C and P*
    right = torch.stack([system.drive, system.column])  # B and P
    sums = _cauchy(left[:, None] * right, system.rate, half, dtype)  # (kernels + 1, 2, D, F)
    half = half.to(dtype)
    cosine, driven, through = half.cos(), sums[:, 0], sums[:, 1]
    plain, corrected = driven[:-1], through[:-1] * driven[-1] * (cosine / (1 + cosine * through[-1]))
    return torch.polar(torch.ones_like(half), half) * (plain - corrected)


def _cauchy(weight: Tensor, rate: Tensor, half: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums (..., D, F) over s of w / (2i sin - cos rate) and of the same with w (..., D, S/2) and rate conjugated.

    The two are (4i sin Re w - 2 cos Re(w conj(rate))) / ((2i sin - cos Re rate)^2 + (cos Im rate)^2):
    two real numerators over one denominator, so the sum is a product of real matrices, taken in `dtype`.
    """
    numerators = torch.stack([4 * weight.real, -2 * (weight * rate.conj()).real])  # (2, ..., D, S/2)
    rows = numerators.flatten(0, -3).transpose(0, 1).to(dtype)  # (D, rows, S/2)
    sums = torch.view_as_complex(_OverPoles.apply(rows, rate.real, rate.imag, half).unflatten(-1, (-1, 2)))
    odd, even = sums.transpose(0, 1).unflatten(0, numerators.shape[:-2])  # (..., D, F) each
    sine, cosine = half.sin().to(dtype), half.cos().to(dtype)
    return torch.complex(-sine * odd.imag, sine * odd.real) + cosine * even


class _OverPoles(torch.autograd.Function):
    """Sums (D, R, 2 F) over s of rows (D, R, S/2) over denominators, real and imaginary parts in turns.

    Of the denominators, D x S/2 x F numbers, a block of frequencies is held at a time, and made again for the
    derivatives: by 1 / d it is -1 / d^2, by growth and turn that of d.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, growth: Tensor, turn: Tensor, half: Tensor) -> Tensor:
        ctx.save_for_backward(rows, growth, turn, half)
        blocks = half.split(_together(growth))
        return torch.cat([rows @ _inverses(growth, turn, block, rows.dtype) for block in blocks], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, growth, turn, half = ctx.saved_tensors
        drows, moments = torch.zeros_like(rows), rows.new_zeros(*growth.shape, 2)
        size = _together(growth)
        for block, part in zip(half.split(size), gradients[0].split(2 * size, dim=-1), strict=True):
            inverses = _inverses(growth, turn, block, rows.dtype)
            drows = drows + part @ inverses.mT
            slope = torch.view_as_complex(inverses.unflatten(-1, (-1, 2))).conj().square()
            dinverses = torch.view_as_complex((rows.mT @ part).unflatten(-1, (-1, 2)))
            ddenominators = torch.view_as_real(-dinverses * slope)  # (D, S/2, F, 2)
            sine, cosine = block.sin().to(rows.dtype), block.cos().to(rows.dtype)
            by_parts = torch.stack([2 * cosine.square(), -4 * sine * cosine], dim=-1)
            moments = moments + torch.einsum("dsfp,fp->dsp", ddenominators, by_parts)
        by_square, by_growth = moments.unbind(-1)
        return drows, by_square * growth + by_growth, by_square * turn, None


def _together(growth: Tensor) -> int:
    """Frequencies whose denominators, those of all modes, are held at once."""
    return max(1, (BLOCK_ON_CUDA if growth.is_cuda else BLOCK) // growth.numel())


def _inverses(growth: Tensor, turn: Tensor, half: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / d (D, S/2, 2 F), d = (2i sin - cos growth)^2 + (cos turn)^2.

    Where a mode decays slowly, cos turn and 2 sin all but cancel: that difference is one of float64.
    """
    sine, cosine = half.sin(), half.cos()
    near = (cosine * turn[..., None]).sub_(2 * sine).to(dtype)
    sine, cosine, growth = sine.to(dtype), cosine.to(dtype), growth[..., None].to(dtype)
    real = torch.addcmul((cosine * growth).square(), near, near + 4 * sine)
    denominator = torch.complex(real, -4 * sine * cosine * growth)
    return torch.view_as_real(denominator.reciprocal()).flatten(-2)


def _times_power(rows: Tensor, matrix: Tensor, exponent: int) -> Tensor:
    """rows (kernels, D, S) times matrix (D, S, S) to the power of a power of two, by squaring."""
    for _ in range(exponent.bit_length() - 1):
        matrix = matrix @ matrix
    return torch.einsum("kds,dst->kdt", rows, matrix)


def _parts(vector: Tensor) -> Tensor:
    """Complex (..., S/2) -> real (..., S)."""
    return torch.cat([vector.real, vector.imag], dim=-1)


def _pairs(vector: Tensor) -> Tensor:
    """Real (..., S) -> complex (..., S/2)."""
    return torch.complex(*vector.chunk(2, dim=-1))
