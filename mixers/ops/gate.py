"""The gate of a unit: SiLU(u) * x, which keeps u and x alone for its gradients."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def silu_gate_reference(u: Tensor, x: Tensor) -> Tensor:
    """SiLU(u) * x."""
    return F.silu(u) * x


def silu_gate(u: Tensor, x: Tensor) -> Tensor:
    """`silu_gate_reference` in one kernel on a GPU, and both gradients in another, for u and x of one dtype and one
    dense storage. A second derivative is that of the reference."""
    return _Gate.apply(u, x)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, x: Tensor) -> Tensor:
        from mixers.ops.kernels import gate

        ctx.save_for_backward(u, x)
        return gate.gate(u, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        from mixers.ops.kernels import gate

        (dy,), (u, x) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of u and x
            return torch.autograd.grad(silu_gate_reference(u, x), (u, x), dy, create_graph=True)
        return gate.gradients(dy if dy.stride() == u.stride() else torch.empty_like(u).copy_(dy), u, x)
