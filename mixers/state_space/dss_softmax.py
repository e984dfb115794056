"""DSS-softmax, diagonal state spaces with normalised modes (Gupta et al., https://arxiv.org/abs/2203.14343).

Shapes: B batch, N length, D dim, S state, L the length over which a mode is normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import State
from mixers.ops.exponentials import exponential_state, exponential_sum
from mixers.ops.precision import wide
from mixers.state_space.dss import FLOOR, require_state, scaled
from mixers.state_space.hippo import legs
from mixers.state_space.space import LongConvolution, StateSpace, draw_steps, require_steps, slow


@dataclass(frozen=True)
class Bounded:
    """The kernel Re sum(weight exp(rate l)), l < L, of modes of which some grow; they count from the end L - 1.

    A growing mode is exp(-rate (L - 1 - l)), so nothing overflows: the sum of exp(-rate j) x_j decays in j, and is
    read through exp(-rate (L - 1 - i)). falling (D, S) is rate or -rate; weight (kernels, D, S).
    """

    falling: Tensor
    grows: Tensor  # (S,)
    weight: Tensor
    longest: int

    def kernel(self, length: int, dtype: torch.dtype) -> Tensor:
        if length > self.longest:
            raise ValueError(f"N={length} is beyond length={self.longest}, for which the kernel was normalised")
        late = self.weight * (self.falling * (self.longest - length)).exp()
        rising = exponential_sum(self.falling, late * self.grows, length).flip(-2)
        return (exponential_sum(self.falling, self.weight * ~self.grows, length) + rising).to(dtype)

    def start(self, batch_size: int) -> State:
        return {"sums": self.weight.new_zeros(batch_size, *self.falling.shape), "position": 0}

    def after(self, x: Tensor) -> State:
        sums = (
            exponential_state(self.falling, x) * ~self.grows + exponential_state(self.falling, x.flip(1)) * self.grows
        )
        return {"sums": sums, "position": x.shape[1]}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        position = state["position"]
        if position >= self.longest:
            raise ValueError(
                f"token {position + 1} is beyond length={self.longest}, for which the kernel was normalised"
            )
        zero = torch.zeros_like(self.falling)
        kept = torch.where(self.grows, zero, self.falling).exp()
        entering = torch.where(self.grows, self.falling * position, zero).exp()
        read = torch.where(self.grows, self.falling * (self.longest - 1 - position), zero).exp()
        sums = kept * state["sums"] + entering * x[..., None]
        return (self.weight[0] * read * sums).sum(-1).real, {"sums": sums, "position": position + 1}


class Modes(nn.Module):
    """W, lambda and the steps: k_l = Re sum(W / lambda exp(l dt lambda) / sum over r < L of exp(r dt lambda)).

    Proposition 1b. lambda is any number. As in the authors' code 1 / x is conj(x) / (|x|^2 + 1e-7), since the sum may
    vanish, and the steps dt of the real and of the imaginary part of lambda are two.
    """

    def __init__(self, dim: int, *, kernels: int, state: int, dt_min: float, dt_max: float):
        super().__init__()
        require_state(state)
        require_steps(dt_min, dt_max)
        self.dt_range = dt_min, dt_max
        self.log_dt = nn.Parameter(torch.empty(dim, 2))  # of the real and of the imaginary part
        self.growth = nn.Parameter(torch.empty(state))  # Re lambda
        self.frequency = nn.Parameter(torch.empty(state))  # Im lambda
        self.weight = nn.Parameter(torch.empty(kernels, dim, state, 2))  # W, real and imaginary
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """lambda = -1/2 + i times the frequencies of HiPPO-LegS; one log-uniform step a channel; normal W."""
        draw_steps(self.log_dt[:, :1], self.dt_range)
        nn.init.constant_(self.growth, -0.5)
        with torch.no_grad():
            self.log_dt[:, 1] = self.log_dt[:, 0]
            self.frequency.copy_(legs(len(self.frequency))[0])
        nn.init.normal_(self.weight)

    def system(self, longest: int, dtype: torch.dtype) -> Bounded:
        """The modes normalised over L = longest, in complex numbers of the precision of `dtype`."""
        exact = torch.float64  # where the sum all but vanishes, its inverse magnifies errors
        base, grows = torch.complex(self.growth.to(exact), self.frequency.to(exact)), self.growth > 0
        falling = scaled(base, self.log_dt.to(exact)) * torch.where(grows, -1, 1)
        scale = ((falling * longest).exp() - 1) * base  # the sum over r < L is a geometric series
        inverse = scale.conj() / (scale.real.square() + scale.imag.square() + FLOOR)
        weight = torch.view_as_complex(self.weight.to(exact)) * (falling.exp() - 1) * inverse
        kept = torch.promote_types(dtype, torch.complex64)
        return Bounded(falling.to(kept), grows, weight.to(kept), longest)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return slow(*(f"modes.{name}" for name, _ in self.named_parameters()))


class SoftmaxStateSpace(StateSpace):
    """y = k * x + skip x, then GELU and Linear; k as in Modes, normalised over L = length, the largest N.

    When bidirectional, a second kernel runs over the tokens after the present one. Decodes with a constant state.
    """

    def __init__(
        self, dim: int, *, causal: bool, length: int, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1
    ):
        super().__init__(dim, causal=causal)
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        self.length = length
        self.modes = Modes(dim, kernels=1 if causal else 2, state=state, dt_min=dt_min, dt_max=dt_max)
        self.out = nn.Linear(dim, dim)
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return self.modes.optimizer_rules()

    def system(self, dtype: torch.dtype) -> Bounded:
        return self.modes.system(self.length, dtype)

    def output(self, y: Tensor) -> Tensor:
        return self.out(F.gelu(y))


class CurrentLengthStateSpace(LongConvolution):
    """y = k * x + skip x, then GELU and Linear; k as in Modes, normalised over the present N: no decoding.

    The form of the authors' code, and of the TNN paper's comparison.
    """

    def __init__(self, dim: int, *, causal: bool, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1):
        super().__init__(dim, causal=causal)
        self.modes = Modes(dim, kernels=1 if causal else 2, state=state, dt_min=dt_min, dt_max=dt_max)
        self.out = nn.Linear(dim, dim)
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        return self.modes.optimizer_rules()

    def kernel(self, length: int) -> Tensor:
        return self.modes.system(length, torch.float64).kernel(length, wide(self.skip))

    def output(self, y: Tensor) -> Tensor:
        return self.out(F.gelu(y))
