"""The gate of a unit: SiLU(u) * x, which keeps u and x alone for its gradients."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def silu_gate(u: Tensor, x: Tensor) -> Tensor:
    """SiLU(u) * x for u and x of one shape; by kernels on a GPU, where `one_pass` can be."""
    return one_pass(u, x) if u.is_cuda and _alike(u, x) else F.silu(u) * x


def one_pass(u: Tensor, x: Tensor) -> Tensor:
    """The same in one kernel, and both gradients in another; computed in float32 and rounded once.

    Raises ValueError unless u and x have one shape, one dense storage and one dtype, which is not float64.
    """
    if not _alike(u, x):
        raise ValueError("u and x must have one shape, one dense storage and one dtype of at most 32 bits")
    return _Gate.apply(u, x)


def _alike(u: Tensor, x: Tensor) -> bool:
    same = (u.shape, u.stride(), u.dtype) == (x.shape, x.stride(), x.dtype)
    dense = torch.empty_like(u, device="meta").stride() == u.stride()  # it keeps the strides of dense storage alone
    return same and dense and u.dtype != torch.float64


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
            s = torch.sigmoid(u)
            return dy * x * s * (1 + u * (1 - s)), dy * u * s
        return gate.gradients(dy if dy.stride() == u.stride() else torch.empty_like(u).copy_(dy), u, x)
