"""The exponential decay of TNN's coefficients (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3).

Shapes: M lags, D channels.
"""

import math

import torch
from torch import Tensor, nn


class Decay(nn.Module):
    """decay^|lag|, one decay a channel."""

    def rates(self, dtype: torch.dtype) -> Tensor:
        """-log(decay), (D,) of the dtype given."""
        raise NotImplementedError

    def forward(self, lags: Tensor, dtype: torch.dtype) -> Tensor:
        """(M,) -> (M, D) of the dtype given."""
        return torch.exp(-lags.abs().to(dtype)[:, None] * self.rates(dtype))


class FixedDecay(Decay):
    """One constant for all channels; 1 means none. The buffer holds -log(decay), (D,), which survives half precision:
    0.99 itself would become 0.988."""

    def __init__(self, dim: int, decay: float):
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} must lie in (0, 1]")
        self.rate: Tensor
        self.register_buffer("rate", torch.full((dim,), -math.log(decay)))

    def rates(self, dtype: torch.dtype) -> Tensor:
        return self.rate.to(dtype)


class LearnedDecay(Decay):
    """decay = floor + (1 - floor) sigmoid(g), one learned g a channel (table 10)."""

    def __init__(self, dim: int, floor: float):
        super().__init__()
        if not 0 < floor < 1:
            raise ValueError(f"decay={floor} must lie in (0, 1) where learn_decay=True: learned decays lie above it")
        self.floor = floor
        self.logit = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard normal, as in the authors' code."""
        nn.init.normal_(self.logit)

    def rates(self, dtype: torch.dtype) -> Tensor:
        # 1 - decay = (1 - floor) sigmoid(-g) keeps its digits where decay is close to 1
        return -torch.log1p(-(1 - self.floor) * torch.sigmoid(-self.logit.to(dtype)))


def make_decay(dim: int, decay: float, learn: bool) -> Decay:
    """A fixed decay, or learned ones that lie between `decay` and 1."""
    return LearnedDecay(dim, decay) if learn else FixedDecay(dim, decay)
