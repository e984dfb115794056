"""The gated Toeplitz unit whose coefficients are sums of decaying exponentials: a diagonal state space.

Qin and Zhong, EMNLP 2023, https://arxiv.org/abs/2311.08756 (ETSC). `mixerzoo convert` makes one of a trained gtu.
Shapes: B batch, N length, D channels, S order (exponentials a channel).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mixers.contract import State, require_causal
from mixers.ops.exponentials import exponential_state, exponential_sum
from mixers.ops.precision import wide, without_autocast
from mixers.toeplitz.mixer import DecodingMixer, Gated
from mixers.toeplitz.operator import Operator


class ExponentialCoefficients(nn.Module):
    """t_0 = skip and t_k = Re(sum over s of weight_s exp(rate_s (k - 1))); the rates' real parts are negative."""

    longest = None

    def __init__(self, dim: int, *, order: int, decay: float):
        super().__init__()
        if order < 1:
            raise ValueError(f"order={order} must be at least 1")
        if not 0 < decay < 1:
            raise ValueError(f"decay={decay} must lie in (0, 1)")
        self.start = math.log(-math.log(decay))
        self.log_decay = nn.Parameter(torch.empty(dim, order))  # the log of what the rates' real parts are minus of
        self.angle = nn.Parameter(torch.empty(dim, order))
        self.weight = nn.Parameter(torch.empty(dim, order, 2))  # real and imaginary
        self.skip = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """One decay, angles spread over all frequencies, weights so small that their sum is of size 1."""
        nn.init.constant_(self.log_decay, self.start)
        nn.init.uniform_(self.angle, 0, math.pi)
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)
        nn.init.normal_(self.skip)

    @torch.no_grad()
    def assign(self, rate: Tensor, weight: Tensor, first: Tensor) -> None:
        """Take the coefficient (D,) of lag 0, and rates and weights (D, S) that give those after it: the sums of weight
        exp(rate k)."""
        self.log_decay.copy_((-rate.real).clamp_min(1e-30).log())
        self.angle.copy_(rate.imag)
        self.weight.copy_(torch.view_as_real(weight * rate.exp()))
        self.skip.copy_(first)

    def modes(self) -> tuple[Tensor, Tensor]:
        """Rates and weights (D, S), complex, in at least float32."""
        dtype = wide(self.log_decay)
        rate = torch.complex(-self.log_decay.to(dtype).exp(), self.angle.to(dtype))
        return rate, torch.view_as_complex(self.weight.to(dtype))

    def forward(self, length: int) -> Tensor:
        """The coefficients (N, D) of lags 0 .. N-1."""
        decaying = exponential_sum(*self.modes(), max(length - 1, 0))
        return torch.cat([self.skip.to(decaying.dtype)[None], decaying])[:length]


class StateSpaceOperator(Operator):
    """The causal product of such coefficients: y_i = skip x_i + Re(sum of weight s), then s = exp(rate) s + x_i."""

    coefficients: ExponentialCoefficients

    def init_state(self, batch_size: int) -> State:
        """The state before the first token: s (B, D, S) in real and imaginary parts."""
        require_causal(self, self.causal)
        rate, _ = self.coefficients.modes()
        return {"sums": torch.zeros(batch_size, *rate.shape, dtype=rate.dtype, device=rate.device)}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        """forward(x), and the state after its N tokens."""
        rate, _ = self.coefficients.modes()
        with without_autocast(x):
            return self(x), {"sums": exponential_state(rate, x)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One token (B, D) at a cost that does not depend on its position."""
        rate, weight = self.coefficients.modes()
        with without_autocast(x):
            y = self.coefficients.skip.to(rate.real.dtype) * x + (weight * state["sums"]).sum(-1).real
            sums = rate.exp() * state["sums"] + x.to(rate.real.dtype)[..., None]
        return y.to(x.dtype), {"sums": sums}


class GatedStateSpace(DecodingMixer):
    """y = W_o (u * T v) as in GatedToeplitzUnit, T the matrix of `order` decaying exponentials a channel."""

    def __init__(
        self,
        dim: int,
        *,
        expand: float = 3.0,
        activation: str = "silu",
        order: int = 32,
        decay: float = 0.99,
        backend: str = "auto",
    ):
        gated = Gated(dim, expand=expand, activation=activation)
        coefficients = ExponentialCoefficients(gated.inner, order=order, decay=decay)
        super().__init__(gated, StateSpaceOperator(coefficients, causal=True, backend=backend))

    def optimizer_rules(self) -> dict[str, dict[str, Any]]:
        """The poles move slowly and do not decay, as those of other state spaces."""
        names = ("log_decay", "angle")
        return {f"operator.coefficients.{name}": {"lr": 1e-3, "weight_decay": 0.0} for name in names}
