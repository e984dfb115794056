"""SiLU(u) * x, which keeps u and x alone for its gradients: the gate of a unit, and of a gated linear unit."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def silu_gate(u: Tensor, x: Tensor) -> Tensor:
    """SiLU(u) * x for u and x of one shape; by kernels on a GPU, where `one_pass` can be."""
    return one_pass(u, x) if u.is_cuda and _alike(u, x) else F.silu(u) * x


def one_pass(u: Tensor, x: Tensor) -> Tensor:
    """The same in one kernel, and both gradients in another; computed in float32 and rounded once.

    Raises ValueError unless u and x, which are not empty, have one shape, one dense storage and one dtype but float64.
    """
    if not _alike(u, x):
        raise ValueError(
            "u and x must have one shape, one dense storage and one dtype of at most 32 bits, not be empty"
        )
    return _Gate.apply(u, x)


def silu_gate_halves(halves: Tensor) -> Tensor:
    """SiLU(u) * x (..., W) for u and x side by side, (..., 2 W); on a GPU by kernels, where `halves_in_one_pass` can.

    Raises ValueError for an odd last side.
    """
    if halves.shape[-1] % 2:
        raise ValueError(f"u and x must lie side by side, (..., 2 W): {halves.shape[-1]} numbers have no halves")
    if halves.is_cuda and _rows(halves):
        return halves_in_one_pass(halves)
    u, x = halves.chunk(2, dim=-1)
    return F.silu(u) * x


def halves_in_one_pass(halves: Tensor) -> Tensor:
    """The same in one kernel, and the gradient in another; computed in float32 and rounded once.

    Raises ValueError unless `halves` is contiguous with an even last side, not empty, and not of float64.
    """
    if not _rows(halves):
        raise ValueError("u and x must lie side by side, contiguous (..., 2 W) of at most 32 bits, and not be empty")
    return _HalvesGate.apply(halves)


def _alike(u: Tensor, x: Tensor) -> bool:
    same = (u.shape, u.stride(), u.dtype) == (x.shape, x.stride(), x.dtype)
    dense = torch.empty_like(u, device="meta").stride() == u.stride()  # it keeps the strides of dense storage alone
    return same and dense and u.dtype != torch.float64 and u.numel() > 0


def _rows(halves: Tensor) -> bool:
    even = halves.shape[-1] % 2 == 0 and halves.numel() > 0
    return even and halves.is_contiguous() and halves.dtype != torch.float64


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
            return _gradients(dy, u, x)
        return gate.gradients(dy if dy.stride() == u.stride() else torch.empty_like(u).copy_(dy), u, x)


class _HalvesGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, halves: Tensor) -> Tensor:
        from mixers.ops.kernels import gate

        ctx.save_for_backward(halves)
        return gate.gate_halves(halves)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        from mixers.ops.kernels import gate

        (dy,), (halves,) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.cat(_gradients(dy, *halves.chunk(2, dim=-1)), dim=-1)
        return gate.halves_gradients(dy.contiguous(), halves)


def _gradients(dy: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """By u and x, as the definition has them."""
    s = torch.sigmoid(u)
    return dy * x * s * (1 + u * (1 - s)), dy * u * s
