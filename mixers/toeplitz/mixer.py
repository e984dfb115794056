"""What stands around an operator over tokens: nothing, or TNN's projections and gate; and the mixers made of both.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.1.
Shapes: B batch, N length, D dim, E inner width.
"""

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State
from mixers.ops.again import computed_again
from mixers.ops.gate import silu_gate
from mixers.ops.precision import linear_dtype
from mixers.toeplitz.choices import ACTIVATIONS, choose
from mixers.toeplitz.operator import Operator


class Bare(nn.Module):
    """No projections: the operator works on x, and what it gives is the output."""

    silu = False

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        return None, x

    def activate(self, x: Tensor) -> Tensor:
        return x

    def output(self, gate: None, mixed: Tensor) -> Tensor:
        return mixed


class Gated(nn.Module):
    """y = W_o (u * v') with u = act(W_u x), v = act(W_v x) of width expand * D, and v' what the operator makes of v.

    u and v are stored channel-first, (E, B, N), as the Toeplitz product reads and writes them: nothing is transposed.
    """

    def __init__(self, dim: int, *, expand: float, activation: str = "silu"):
        super().__init__()
        if not 1 <= expand * dim < math.inf:
            raise ValueError(f"expand={expand} times dim={dim} must be at least 1")
        self.inner = int(expand * dim)
        self.activation = choose(ACTIVATIONS, "activation", activation)
        self.silu = activation == "silu"
        self.gate = nn.Linear(dim, self.inner)
        self.value = nn.Linear(dim, self.inner)
        self.out = nn.Linear(self.inner, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What u and v are made of, before their activation: (B, N, D) -> twice (B, N, E)."""
        if x.shape[-1] != self.gate.in_features:
            raise ValueError(f"x must have {self.gate.in_features} channels, not {x.shape[-1]}")
        x = x.to(linear_dtype(x))  # once for both
        if x.is_cuda:
            x = torch.cat([x, x.new_ones(*x.shape[:-1], ONES)], dim=-1)  # faster than F.pad, both ways
        return _channel_first(self.gate, x), _channel_first(self.value, x)

    def activate(self, value: Tensor) -> Tensor:
        """v."""
        return self.activation(value)

    def output(self, gate: Tensor, mixed: Tensor) -> Tensor:
        """y: what u is made of, and v' (B, N, E) -> (B, N, D)."""

        def rows() -> Tensor:
            gated = silu_gate(gate, mixed) if self.silu else self.activation(gate) * mixed
            return gated.permute(2, 0, 1).flatten(1).T  # (B N, E)

        # the gate keeps what they are made of, and on a GPU it takes one pass
        rows_now = rows()
        again = self.silu and gate.is_cuda and not torch.compiler.is_compiling()
        with computed_again(rows_now, rows) if again else nullcontext():
            y = torch.addmm(self.out.bias, rows_now, self.out.weight.T)
        return y.unflatten(0, gate.shape[:2])


ONES = 8
"""Columns of ones beside x on a GPU, one of which carries the bias: else it would be written out over all tokens before
the product, and summed over them for its gradient. Tensor cores read eight numbers at a time."""


def _channel_first(linear: nn.Linear, x: Tensor) -> Tensor:
    """linear(x), (B, N, E), stored as (E, B, N); x may have ONES behind it."""
    bias, rows = linear.bias[:, None], x.flatten(0, 1).T
    if len(rows) == linear.in_features + ONES:
        y = torch.cat([linear.weight, F.pad(bias, (0, ONES - 1))], dim=1) @ rows
    else:
        y = torch.addmm(bias, linear.weight, rows)  # (E, B N)
    return y.unflatten(1, x.shape[:2]).permute(1, 2, 0)


class OperatorMixer(Mixer):
    """Projections around an operator: (x, mask) -> y over tokens, channel by channel. The operator fills the pads."""

    def __init__(self, projections: Bare | Gated, operator: nn.Module):
        super().__init__()
        self.projections = projections
        self.operator: Any = operator

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        gate, values = self.projections(x)
        if self.projections.silu and isinstance(self.operator, Operator):
            mixed = self.operator(values, mask, silu=True)
        else:
            mixed = self.operator(self.projections.activate(values), mask)
        return self.projections.output(gate, mixed)

    def toeplitz(self, length: int) -> Tensor | None:
        return self.operator.toeplitz(length)

    def backend_for(self, x: Tensor, mask: Tensor | None = None) -> str:
        return self.operator.backend_for(x)  # the projections keep N, device and dtype


class DecodingMixer(OperatorMixer):
    """Projections around an operator that decodes."""

    def init_state(self, batch_size: int) -> State:
        return self.operator.init_state(batch_size)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        gate, values = self.projections(x)
        mixed, state = self.operator.prefill(self.projections.activate(values))
        return self.projections.output(gate, mixed), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        gate, values = self.projections(x[:, None])
        mixed, state = self.operator.step(self.projections.activate(values)[:, 0], state)
        return self.projections.output(gate, mixed[:, None])[:, 0], state
