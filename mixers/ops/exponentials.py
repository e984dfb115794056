"""Toeplitz coefficients as sums of decaying exponentials: t_k = Re sum over s of weight_s exp(rate_s k).

Such a sum is a diagonal state space, which decodes with a constant state.
Shapes: N length, D channels, S exponentials a channel, M rows of a Hankel matrix.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SLOWEST = -1e-7  # fitted rates' real parts stay below: a pole outside the unit circle moves in, in float32 too
_FASTEST = math.log(1e-3)  # and above: weight = (value at lag 1) / pole would drown the rest in rounding
_RANK = 1e-11  # modes under this part of the largest are rounding of float64
_RIDGE = 1e-8  # on the weights: poles that all but coincide share theirs, or float32 would lose their difference
_CHUNK = 2**22  # numbers in the Hankel matrices that are held at once


def exponential_sum(rate: Tensor, weight: Tensor, length: int) -> Tensor:
    """The coefficients (..., N, D) at k = 0 .. N-1 of rate (D, S) and weight (..., D, S), both complex.

    exp(rate k) is exp(rate b C) exp(rate c) with k = b C + c: two tables of about sqrt(N) rows and a product.
    """
    block = math.isqrt(max(length - 1, 0)) + 1
    steps = torch.arange(block, device=rate.device)
    real, imaginary = _powers(rate, steps * block)  # (D, b, S)
    factor, turn = weight.real[..., None, :], weight.imag[..., None, :]
    coarse = torch.cat([factor * real - turn * imaginary, -factor * imaginary - turn * real], dim=-1)  # (..., D, b, 2S)
    fine = torch.cat(_powers(rate, steps), dim=-1)  # (D, C, 2S)
    real = coarse @ fine.mT
    return real.flatten(-2)[..., :length].transpose(-1, -2)


def exact_exponentials(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Rates and weights (D, floor((N + 1) / 2)) that give the coefficients (N, D) exactly: ETSC, on the unit circle.

    Qin and Zhong, EMNLP 2023, https://arxiv.org/abs/2311.08756: the DFT of t_0 .. t_{N-1}, t_N = -sum of them, which
    leaves no constant term. The DFT of real numbers comes in conjugate pairs: one of each is enough. Beyond N the sum
    goes round. For decaying coefficients give those without decay and add log(decay) to the rates.
    """
    size, pairs = len(coefficients) + 1, (len(coefficients) + 1) // 2
    values = coefficients.double()
    spectrum = torch.fft.rfft(torch.cat([values, -values.sum(0, keepdim=True)]).T)[:, 1:]  # (D, pairs)
    frequency = torch.arange(1, pairs + 1, device=values.device, dtype=values.dtype) * (2 * math.pi / size)
    share = torch.full_like(frequency, 2 / size)
    if size % 2 == 0:
        share[-1] = 1 / size  # -1 is its own conjugate
    return torch.complex(torch.zeros_like(frequency), frequency).repeat(len(spectrum), 1), spectrum * share


def fit_exponentials(coefficients: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Rates and weights (D, order), complex128, whose sum is near the coefficients (N, D) at lags 1 .. N-1.

    Kung's method (Asilomar 1978; the matrix pencil and ESPRIT are its twins): the values at lags 1 .. N-1 fill a
    Hankel matrix; one matrix moves each of its leading singular vectors on by one row, and its eigenvalues are the
    poles; least squares gives the weights. Every pole lies inside the unit circle. There are fewer than N / 2 modes;
    a slot without one has weight 0. Lag 0 is left to a skip term. Raises ValueError for an order below 1.
    """
    if order < 1:
        raise ValueError(f"order={order} must be at least 1")
    values = coefficients.detach().to("cpu", torch.float64).T  # (D, N); LAPACK's drivers are the robust ones
    rows = max(2, values.shape[1] // 2)
    channels = max(1, _CHUNK // rows**2)
    parts = [_fit(part, order, rows) for part in values[:, 1:].split(channels)]
    rate, weight = (torch.cat(part).to(coefficients.device) for part in zip(*parts, strict=True))
    return rate, weight


def _fit(values: Tensor, order: int, rows: int) -> tuple[Tensor, Tensor]:
    """Rates and weights (D, order) of the values (D, N-1) at lags 1 .. N-1."""
    poles, used = _poles(values, order, rows)
    rate = torch.complex(poles.abs().log().clamp(_FASTEST, _SLOWEST), poles.angle())
    real, imaginary = _powers(rate, torch.arange(values.shape[1]))  # (D, N-1, S): 1 at lag 1
    parts = torch.cat([real, -imaginary], dim=-1) * used.repeat(1, 2)[:, None]  # (D, N-1, 2 S)
    ridge = (_RIDGE + ~used).repeat(1, 2).diag_embed()  # 1 where a slot is not in use
    target = F.pad(values, (0, ridge.shape[2]))[..., None]
    solution = torch.linalg.lstsq(torch.cat([parts, ridge], dim=1), target, driver="gels").solution[..., 0]
    return rate, torch.complex(*solution.chunk(2, dim=-1)) * (-rate).exp() * used


def _poles(values: Tensor, order: int, rows: int) -> tuple[Tensor, Tensor]:
    """Poles (D, order), one of each conjugate pair, and which of these slots are in use.

    A conjugate pair takes one slot, and so does a real pole: of 2 order modes, too many are left out until they fit.
    """
    vectors, modes = _leading_vectors(values, min(2 * order, rows - 1), rows)
    poles = torch.ones(len(values), order, dtype=torch.complex128)
    used = torch.zeros(len(values), order, dtype=torch.bool)
    todo = torch.arange(len(values))
    while len(todo):
        found, kept = _eigenvalues(vectors[todo], modes[todo])
        excess = kept.sum(1) - order
        fits = excess <= 0
        first = kept.int().argsort(dim=1, descending=True, stable=True)[fits, :order]
        width = first.shape[1]
        poles[todo[fits], :width] = found[fits].gather(1, first)
        used[todo[fits], :width] = kept[fits].gather(1, first)
        modes[todo] -= excess.clamp_min(0)
        todo = todo[~fits]
    return poles, used


def _leading_vectors(values: Tensor, count: int, rows: int) -> tuple[Tensor, Tensor]:
    """The leading singular vectors (D, M, count) of the Hankel matrices, and how many of them are not rounding (D,)."""
    row = torch.arange(rows)
    values = F.pad(values, (0, max(0, 2 * rows - 1 - values.shape[1])))  # two rows need three values
    sizes, vectors = torch.linalg.eigh(values[:, row[:, None] + row])  # symmetric: singular values up to the sign
    sizes, place = sizes.abs().sort(dim=1, descending=True)
    vectors = vectors.gather(2, place[:, None, :count].expand(-1, rows, -1))
    return vectors, (sizes[:, :count] > _RANK * sizes[:, :1]).sum(1)


def _eigenvalues(vectors: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D, K) of the matrix that shifts the first `modes` (D,) vectors by one row, and which to keep.

    With U the vectors without their last row v, U^T U = 1 - v v^T, whose inverse is 1 + v v^T / (1 - v^T v).
    """
    position = torch.arange(vectors.shape[2])
    vectors = vectors * (position < modes[:, None])[:, None]
    shift = vectors[:, :-1].mT @ vectors[:, 1:]
    last = vectors[:, -1]
    rest = (1 - last.square().sum(1)).clamp_min(torch.finfo(last.dtype).eps)
    shift = shift + last[:, :, None] * (last[:, None] @ shift) / rest[:, None, None]
    found = torch.linalg.eigvals(shift)
    found = found.gather(1, found.abs().argsort(dim=1, descending=True, stable=True))  # what is cut off has 0
    return found, (position < modes[:, None]) & (found.imag >= 0)


def _powers(rate: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
    """The real and the imaginary part of exp(rate * exponent), (D, M, S) each: torch.compile fuses real numbers."""
    size, angle = (rate.real[:, None] * exponents[:, None]).exp(), rate.imag[:, None] * exponents[:, None]
    return size * angle.cos(), size * angle.sin()


def exponential_state(rate: Tensor, x: Tensor) -> Tensor:
    """The sums (B, D, S) over j of exp(rate (N-1-j)) x_j for x (B, N, D): what a recurrence holds after N tokens.

    In two tables of about sqrt(N) rows, as `exponential_sum`.
    """
    block = math.isqrt(max(x.shape[1] - 1, 0)) + 1
    steps = torch.arange(block, device=rate.device).flip(0)
    blocks = F.pad(x, (0, 0, block**2 - x.shape[1], 0)).unflatten(1, (block, block))  # zeros before the first token
    inside = torch.einsum("bncd,dcs->bnds", blocks.to(rate.dtype), torch.complex(*_powers(rate, steps)))
    return torch.einsum("bnds,dns->bds", inside, torch.complex(*_powers(rate, steps * block)))
