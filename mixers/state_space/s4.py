"""S4, the structured state space sequence model (Gu et al., ICLR 2022, https://arxiv.org/abs/2111.00396).

Shapes: B batch, N length, D dim, S state, in S / 2 conjugate pairs; one state space a channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.state_space.dplr import LowRank
from mixers.state_space.hippo import legs
from mixers.state_space.space import StateSpace, draw_steps, require_steps, slow


class StructuredStateSpace(StateSpace):
    """x' = A x + B u, y = C x, held by the bilinear rule, plus skip u; then GELU, Linear and GLU.

    A = diag(lambda) - P P*, Re lambda = -exp(log_decay), as in the authors' code since Sashimi
    (https://arxiv.org/abs/2202.09729): it is stable at all parameters. When bidirectional, a second
    readout C gives the kernel over the tokens after the present one. `state` is even. Decodes with a constant state.
    """

    def __init__(self, dim: int, *, causal: bool, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1):
        super().__init__(dim, causal=causal)
        if state < 2 or state % 2:
            raise ValueError(f"state={state} must be even and at least 2")
        require_steps(dt_min, dt_max)
        self.dt_range = dt_min, dt_max
        pairs = state // 2
        self.log_dt = nn.Parameter(torch.empty(dim, 1))
        self.log_decay = nn.Parameter(torch.empty(dim, pairs))
        self.frequency = nn.Parameter(torch.empty(dim, pairs))
        self.low_rank = nn.Parameter(torch.empty(dim, pairs, 2))  # P, real and imaginary
        self.drive = nn.Parameter(torch.empty(dim, pairs, 2))  # B
        self.readout = nn.Parameter(torch.empty(1 if causal else 2, dim, pairs, 2))  # C
        self.out = nn.Linear(dim, 2 * dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """HiPPO-LegS for A and B, log-uniform steps dt, standard normal C and skip."""
        frequency, rank_one = legs(self.frequency.shape[1])
        draw_steps(self.log_dt, self.dt_range)
        nn.init.constant_(self.log_decay, math.log(0.5))
        with torch.no_grad():
            self.frequency.copy_(frequency)
            self.low_rank.copy_(torch.view_as_real(rank_one + 0j))
            self.drive.copy_(2**0.5 * self.low_rank)
        nn.init.normal_(self.readout, std=0.5**0.5)  # a complex standard normal
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return slow("log_dt", "log_decay", "frequency", "low_rank", "drive")

    def system(self, dtype: torch.dtype) -> LowRank:
        dt = self.log_dt.to(dtype).exp()
        rate = dt * torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))
        parts = (self.low_rank, self.drive, self.readout)
        low_rank, drive, readout = (torch.view_as_complex(part.to(dtype)) for part in parts)
        return LowRank(rate, dt.sqrt() * low_rank, dt * drive, readout)

    def output(self, y: Tensor) -> Tensor:
        return F.glu(self.out(F.gelu(y)), dim=-1)
