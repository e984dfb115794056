"""The scores of the Synthesizer: modules from tokens x (B, N, D) to scores (B or 1, H, N, M) of their M positions.

Tay et al., ICML 2021, https://arxiv.org/abs/2005.00743, section 3 and table 1. M = start + N where x stands at
positions start, start + 1, …. Shapes: B batch, N length, D dim, H heads, K = D / H, L the largest N.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import split_heads


class HeadLinear(nn.Module):
    """One affine map a head, (B, H, N, K) -> (B, H, N, width); initial values as nn.Linear's."""

    def __init__(self, heads: int, inputs: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, inputs, width))
        self.bias = nn.Parameter(torch.empty(heads, 1, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, count: int) -> Tensor:
        """The first `count` outputs (B, H, N, count)."""
        weight = torch.cat([self.weight[..., :count], self.bias[..., :count]], dim=1)
        return F.pad(x, (0, 1), value=1.0) @ weight  # a column of ones brings the bias: one pass over (B, H, N, count)


class Hidden(nn.Linear):
    """relu(W1 x + b1), cut into heads: (B, N, D) -> (B, H, N, K)."""

    def __init__(self, dim: int, heads: int):
        super().__init__(dim, dim)
        self.heads, self.head_dim = heads, split_heads(dim, heads)

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input)).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)


class DenseScores(nn.Module):
    """Token i scores position j by [W2 relu(W1 x_i + b1) + b2]_j, W2 (K, L) one a head: D^2 + D L weights."""

    def __init__(self, dim: int, length: int, heads: int):
        super().__init__()
        self.hidden = Hidden(dim, heads)
        self.columns = HeadLinear(heads, self.hidden.head_dim, length)

    def forward(self, x: Tensor, start: int) -> Tensor:
        return self.columns(self.hidden(x), start + x.shape[1])


class FactorisedDenseScores(nn.Module):
    """Token i scores position j by A_i[j // width] B_i[j % width], width = ceil(L / blocks).

    A (the block of a position) and B (its place in the block) are affine in relu(W1 x_i + b1): D^2 + D (blocks + width)
    weights.
    """

    def __init__(self, dim: int, length: int, heads: int, blocks: int):
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks={blocks} must be at least 1")
        self.width = -(-length // blocks)
        self.hidden = Hidden(dim, heads)
        self.block = HeadLinear(heads, self.hidden.head_dim, blocks)
        self.place = HeadLinear(heads, self.hidden.head_dim, self.width)

    def forward(self, x: Tensor, start: int) -> Tensor:
        hidden, end = self.hidden(x), start + x.shape[1]
        block = self.block(hidden, -(-end // self.width))
        place = self.place(hidden, self.width)
        return (block[..., None] * place[..., None, :]).flatten(-2)[..., :end]


class RandomScores(nn.Module):
    """Position i scores position j by R[i, j], learned, one R (L, L) a head, whatever the tokens are."""

    def __init__(self, length: int, heads: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(heads, length, length))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform in each head, as the authors' code by TensorFlow's default."""
        for table in self.table:
            nn.init.xavier_uniform_(table)

    def forward(self, x: Tensor, start: int) -> Tensor:
        end = start + x.shape[1]
        return self.table[None, :, start:end, :end]


class NormalRandomScores(RandomScores):
    """Random scores that are standard normal at first."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table)


class FactorisedRandomScores(nn.Module):
    """Position i scores position j by [R1 R2^T][i, j], R1 and R2 (L, rank) learned, two a head."""

    def __init__(self, length: int, heads: int, rank: int):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank={rank} must be at least 1")
        self.rows = nn.Parameter(torch.empty(heads, length, rank))
        self.columns = nn.Parameter(torch.empty(heads, length, rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform in each head, as the authors' code by TensorFlow's default."""
        for factor in (*self.rows, *self.columns):
            nn.init.xavier_uniform_(factor)

    def forward(self, x: Tensor, start: int) -> Tensor:
        end = start + x.shape[1]
        return (self.rows[:, start:end] @ self.columns[:, :end].transpose(-1, -2))[None]
