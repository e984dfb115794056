"""What every state space here is: one linear system a channel, run as a long convolution or token by token.

Shapes: B batch, N length, D dim, S state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mixers.contract import Mixer, State, fill_pads, require_causal
from mixers.ops.exponentials import exponential_state, exponential_sum
from mixers.ops.precision import wide, without_autocast
from mixers.ops.toeplitz import toeplitz_matmul


class System(Protocol):
    """A linear system a channel, made of the parameters at hand."""

    def kernel(self, length: int, dtype: torch.dtype) -> Tensor:
        """Impulse responses (kernels, N, D), in `dtype`; only what needs no more is computed in it."""
        ...

    def start(self, batch_size: int) -> State:
        """The state before the first token."""
        ...

    def after(self, x: Tensor) -> State:
        """The state after the tokens x (B, N, D)."""
        ...

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """What the first kernel gives for one token x (B, D), and the state after it."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """s_i = exp(rate) s_{i-1} + x_i, y_i = Re sum(weight s_i): complex rate (D or 1, S), weight (kernels, D, S)."""

    rate: Tensor
    weight: Tensor

    def kernel(self, length: int, dtype: torch.dtype) -> Tensor:
        return exponential_sum(self.rate, self.weight, length).to(dtype)

    def start(self, batch_size: int) -> State:
        return {"sums": self.weight.new_zeros(batch_size, *self.weight.shape[1:])}

    def after(self, x: Tensor) -> State:
        return {"sums": exponential_state(self.rate.expand(self.weight.shape[1:]), x)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        sums = self.rate.exp() * state["sums"] + x[..., None]
        return (self.weight[0] * sums).sum(-1).real, {"sums": sums}


class LongConvolution(Mixer):
    """y = output(k * x + skip x): k is a causal kernel, or one of past and present beside one of the future."""

    def __init__(self, dim: int, *, causal: bool):
        super().__init__()
        self.causal = causal
        self.skip = nn.Parameter(torch.empty(dim))

    def kernel(self, length: int) -> Tensor:
        """The kernels (1 or 2, N, D) of the present and the past, and of the future when bidirectional."""
        raise NotImplementedError

    def output(self, y: Tensor) -> Tensor:
        """The layers after the convolution, token by token."""
        return y

    def toeplitz(self, length: int) -> Tensor:
        kernels = self.kernel(length)
        past = torch.cat([kernels[0, :1] + self.skip, kernels[0, 1:]])
        if self.causal:
            return past
        return torch.cat([kernels[1, : length - 1].flip(0), past])  # lag -1 has the second kernel's first value

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        with without_autocast(x):
            y = toeplitz_matmul(self.toeplitz(x.shape[1]), x, causal=self.causal)
        return self.output(y)


class StateSpace(LongConvolution):
    """A long convolution whose kernel is the impulse response of a system, by which it decodes."""

    def system(self, dtype: torch.dtype) -> System:
        """The system of the parameters at hand, in numbers of `dtype` and complex ones of the same precision."""
        raise NotImplementedError

    def kernel(self, length: int) -> Tensor:
        """From a system in float64: phases grow with N, and those of float32 would be off by up to 1e-7 N turns."""
        return self.system(torch.float64).kernel(length, wide(self.skip))

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return self.system(wide(self.skip)).start(batch_size)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        with without_autocast(x):
            state = self.system(wide(self.skip)).after(x)
        return self(x), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with without_autocast(x):
            y, state = self.system(wide(self.skip)).step(x, state)
            y = y + self.skip * x
        return self.output(y.to(x.dtype)), state


def require_steps(dt_min: float, dt_max: float) -> None:
    """Raise ValueError for bounds between which no step can be drawn."""
    if not 0 < dt_min <= dt_max:
        raise ValueError(f"dt_min={dt_min} and dt_max={dt_max} must satisfy 0 < dt_min <= dt_max")


def draw_steps(log_dt: Tensor, bounds: tuple[float, float]) -> None:
    """Fill the logarithms of steps uniformly between those of the bounds."""
    low, high = (math.log(bound) for bound in bounds)
    nn.init.uniform_(log_dt, low, high)


def slow(*names: str) -> dict[str, dict[str, float]]:
    """Optimizer rules of the parameters of a state space: they move slowly and do not decay (the authors' recipes)."""
    return {name: {"lr": 1e-3, "weight_decay": 0.0} for name in names}
