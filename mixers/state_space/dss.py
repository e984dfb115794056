"""DSS, diagonal state spaces (Gupta et al., NeurIPS 2022, https://arxiv.org/abs/2203.14343).

Shapes: B batch, N length, D dim, S state; the rates' basis is one for all channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.state_space.hippo import legs
from mixers.state_space.space import Diagonal, StateSpace, draw_steps, require_steps, slow

FLOOR = 1e-7
"""The smallest |lambda|^2 that the authors divide by."""


class ExponentialStateSpace(StateSpace):
    """k_l = Re sum(W (exp(dt lambda) - 1) / lambda exp(l dt lambda)), y = k * x + skip x, then GELU and Linear.

    DSS-exp (proposition 1a), Re lambda = -exp(log_decay), one lambda for all channels and no conjugates. As in the
    authors' code the steps dt of the real and of the imaginary part are two. When bidirectional, a second kernel runs
    over the tokens after the present one. Decodes with a constant state.
    """

    def __init__(self, dim: int, *, causal: bool, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1):
        super().__init__(dim, causal=causal)
        require_state(state)
        require_steps(dt_min, dt_max)
        self.dt_range = dt_min, dt_max
        self.log_dt = nn.Parameter(torch.empty(dim, 2))  # of the real and of the imaginary part
        self.log_decay = nn.Parameter(torch.empty(state))
        self.frequency = nn.Parameter(torch.empty(state))
        self.weight = nn.Parameter(torch.empty(1 if causal else 2, dim, state, 2))  # W, real and imaginary
        self.out = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """lambda = -1/2 + i times the frequencies of HiPPO-LegS; one log-uniform step a channel; normal W and skip."""
        draw_steps(self.log_dt[:, :1], self.dt_range)
        nn.init.constant_(self.log_decay, math.log(0.5))
        with torch.no_grad():
            self.log_dt[:, 1] = self.log_dt[:, 0]
            self.frequency.copy_(legs(len(self.frequency))[0])
        nn.init.normal_(self.weight)
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return slow("log_dt", "log_decay", "frequency", "weight")

    def system(self, dtype: torch.dtype) -> Diagonal:
        base = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))
        rate = scaled(base, self.log_dt.to(dtype))
        inverse = base.conj() / (base.real.square() + base.imag.square()).clamp_min(FLOOR)
        return Diagonal(rate, torch.view_as_complex(self.weight.to(dtype)) * (rate.exp() - 1) * inverse)

    def output(self, y: Tensor) -> Tensor:
        return self.out(F.gelu(y))


def scaled(base: Tensor, log_dt: Tensor) -> Tensor:
    """The rates (D, S) of lambda (S,), complex, and the logarithms (D, 2) of the steps of its two parts."""
    dt = log_dt.exp()
    return torch.complex(dt[:, :1] * base.real, dt[:, 1:] * base.imag)


def require_state(state: int) -> None:
    """Raise ValueError for a state without entries."""
    if state < 1:
        raise ValueError(f"state={state} must be at least 1")
