"""S4D, the diagonal state space model (Gu et al., NeurIPS 2022, https://arxiv.org/abs/2206.11893).

Shapes: B batch, N length, D dim, S state / 2 conjugate pairs; one state space a channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.state_space.space import Diagonal, StateSpace, draw_steps, require_steps, slow


class DiagonalStateSpace(StateSpace):
    """s_i = exp(dt A) s_{i-1} + x_i, y_i = 2 Re sum(C (exp(dt A) - 1) / A s_i) + skip x, then GELU, Linear and GLU.

    Zero-order hold with B = 1 (section 3), A = -exp(log_decay) + i frequency, started at S4D-Lin: -1/2 + i pi n
    (section 4.3). When bidirectional, a second kernel runs over the tokens after the present one. `state` is even.
    Decodes with a constant state.
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
        self.readout = nn.Parameter(torch.empty(1 if causal else 2, dim, pairs, 2))  # C, real and imaginary
        self.out = nn.Linear(dim, 2 * dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """S4D-Lin for A, log-uniform steps dt, standard normal C and skip."""
        draw_steps(self.log_dt, self.dt_range)
        nn.init.constant_(self.log_decay, math.log(0.5))
        with torch.no_grad():
            self.frequency.copy_(math.pi * torch.arange(self.frequency.shape[1]).expand_as(self.frequency))
        nn.init.normal_(self.readout, std=0.5**0.5)  # a complex standard normal
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return slow("log_dt", "log_decay", "frequency")

    def system(self, dtype: torch.dtype) -> Diagonal:
        """The rates dt A and the discrete C, doubled for the conjugates."""
        a = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))
        rate = a * self.log_dt.to(dtype).exp()
        return Diagonal(rate, 2 * torch.view_as_complex(self.readout.to(dtype)) * (rate.exp() - 1) / a)

    def output(self, y: Tensor) -> Tensor:
        return F.glu(self.out(F.gelu(y)), dim=-1)
