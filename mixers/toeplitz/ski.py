"""SKI-TNN: a Toeplitz operator as a sparse one plus a low-rank one (Moreno, Mei and Walters, 2023, arXiv 2305.09028).

Shapes: B batch, N length, D dim, R rank (inducing points).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import fill_pads
from mixers.ops.precision import wide, without_autocast
from mixers.ops.toeplitz import toeplitz_matmul
from mixers.toeplitz.mixer import Bare, Gated, OperatorMixer


class SparsePlusLowRank(nn.Module):
    """T = S + W A W^T: S has `taps` diagonals, W interpolates linearly between R points spread over 0 .. N-1, and A is
    the R x R Toeplitz matrix of k(s) = f(sign(s) warp^|s|) at the points' distances.

    f is piecewise linear with R learned values on either side of f(0) = 0, so k fades at large distances. The kernel is
    called 2R-1 times whatever N is.
    """

    def __init__(self, dim: int, *, rank: int, taps: int, warp: float):
        super().__init__()
        if rank < 2 or taps < 1 or taps % 2 == 0:
            raise ValueError(f"rank={rank} must be at least 2 and taps={taps} odd")
        if not 0 < warp < 1:
            raise ValueError(f"warp={warp} must lie in (0, 1)")
        self.rank, self.warp = rank, warp
        self.taps = nn.Parameter(torch.empty(dim, 1, taps))
        self.values = nn.Parameter(torch.empty(2, rank, dim))  # f at 1/R .. 1, and at -1/R .. -1
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard normal taps, as in the authors' code; f so small that a sum over R points is of their size."""
        nn.init.normal_(self.taps)
        nn.init.normal_(self.values, std=1 / self.rank)

    def backend_for(self, x: Tensor) -> str:
        return "fft"

    def toeplitz(self, length: int) -> None:
        """None: between the points the matrix is interpolated, and Toeplitz but nearly."""

    def kernel(self, distances: Tensor) -> Tensor:
        """k(s) for distances (M,): (M, D) in at least float32."""
        values = self.values.to(wide(self.values))
        knots = F.pad(values, (0, 0, 1, 0))  # (2, R + 1, D): f(0) = 0 first
        place = self.rank * self.warp ** distances.abs()  # where f is read, in knots from 0
        below = place.long().clamp_max(self.rank - 1)
        share = (place - below)[:, None]
        side = (distances < 0).long()
        read = knots[side, below] * (1 - share) + knots[side, below + 1] * share
        return read * (distances != 0)[:, None]  # sign(0) = 0: the diagonal is the sparse part's

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        if not x.numel():
            return x * self.taps.sum() * self.values.sum()
        dtype = wide(x, self.taps)
        with without_autocast(x):
            exact, taps = x.to(dtype), self.taps.to(dtype)
            sparse = F.conv1d(exact.mT, taps, padding=taps.shape[-1] // 2, groups=len(taps)).mT
            return (sparse + self._low_rank(exact)).to(x.dtype)

    def _low_rank(self, x: Tensor) -> Tensor:
        spacing = max(x.shape[1] - 1, 1) / (self.rank - 1)  # tokens between two points
        point = torch.arange(self.rank, dtype=x.dtype, device=x.device)
        token = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
        weights = (1 - (token[:, None] / spacing - point).abs()).clamp_min(0)  # W (N, R)
        distances = spacing * torch.arange(1 - self.rank, self.rank, dtype=x.dtype, device=x.device)
        between = toeplitz_matmul(self.kernel(distances).to(x.dtype), weights.T @ x, causal=False)  # (B, R, D)
        return weights @ between


class SkiToeplitzOperator(OperatorMixer):
    """y = (S + W A W^T) x: the sparse plus low-rank operator alone."""

    def __init__(self, dim: int, *, rank: int = 64, taps: int = 7, warp: float = 0.99):
        super().__init__(Bare(), SparsePlusLowRank(dim, rank=rank, taps=taps, warp=warp))


class SkiGatedToeplitzUnit(OperatorMixer):
    """The gated unit of TNN around the sparse plus low-rank operator."""

    def __init__(self, dim: int, *, expand: float = 3.0, rank: int = 64, taps: int = 7, warp: float = 0.99):
        gated = Gated(dim, expand=expand)
        super().__init__(gated, SparsePlusLowRank(gated.inner, rank=rank, taps=taps, warp=warp))
