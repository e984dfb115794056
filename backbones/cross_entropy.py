"""The cross-entropy of a linear head, without all of its logits at once.

Shapes: M tokens, D dim, V vocabulary.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_AT_ONCE = {"cpu": 2**23, "cuda": 2**25}
"""Chunk times vocabulary. Smaller ones add to the weight's gradient too often, larger ones cost a CPU fresh pages."""

IGNORED = -100
"""The target of a token that is not scored."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, *, chunk: int | None = None
) -> Tensor:
    """The mean of -log softmax(hidden weight^T + bias)[target] in nats, over the targets that are not IGNORED.

    hidden (..., D), weight (V, D), targets (...), bias (V); 0 where all are ignored. The gradient is computed beside
    the value, chunk by chunk, so that no tensor is larger than `chunk` x V, or V x D. Products run in autocast's dtype,
    the softmax in float32 at the least. It can be differentiated once.
    """
    tokens = hidden.reshape(-1, hidden.shape[-1])
    chunk = chunk or max(1, LOGITS_AT_ONCE[hidden.device.type] // len(weight))
    return cast("Any", _apply)(tokens, weight, bias, targets.reshape(-1), chunk, torch.is_grad_enabled())


@torch.compiler.disable  # a compiled model stops before its head: the chunks depend on the number of tokens
def _apply(*arguments: Any) -> Any:
    return _LinearCrossEntropy.apply(*arguments)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int, training: bool
    ) -> Tensor:
        device = hidden.device.type
        fast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        exact = torch.promote_types(hidden.dtype, torch.float32)
        count = (targets != IGNORED).sum().clamp_min(1)
        wanted = [training and needed for needed in ctx.needs_input_grad[:3]]
        leaves = (hidden, weight, bias)
        gradients = [
            torch.zeros_like(leaf) if need and leaf is not None else None
            for leaf, need in zip(leaves, wanted, strict=True)
        ]
        total = torch.zeros((), dtype=exact, device=hidden.device)
        with torch.autocast(device, enabled=False):
            fast_weight = weight.to(fast)
            for start in range(0, len(hidden), chunk):
                rows = slice(start, start + chunk)
                inputs, answers = hidden[rows].to(fast), targets[rows]
                logits = (inputs @ fast_weight.T).to(exact)
                if bias is not None:
                    logits += bias
                scored = answers != IGNORED
                place = answers.masked_fill(~scored, 0)[:, None]
                logarithms = logits.log_softmax(-1)
                likely = logarithms.gather(1, place)
                total -= likely.masked_fill(~scored[:, None], 0).sum()
                if any(wanted):
                    slope = logarithms.exp_().scatter_add_(1, place, torch.full_like(likely, -1))
                    slope.mul_((scored / count)[:, None])  # now the gradient of the mean by the chunk's logits
                    _accumulate(gradients, rows, inputs, fast_weight, slope)
        ctx.save_for_backward(*gradients)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled = (None if gradient is None else gradient * upstream[0] for gradient in ctx.saved_tensors)
        return *scaled, None, None, None


def _accumulate(gradients: list[Tensor | None], rows: slice, inputs: Tensor, weight: Tensor, slope: Tensor) -> None:
    """Add a chunk's part of the gradients of (hidden, weight, bias)."""
    by_hidden, by_weight, by_bias = gradients
    fast = slope.to(weight.dtype)
    if by_hidden is not None:
        by_hidden[rows] = (fast @ weight).to(by_hidden.dtype)
    if by_weight is not None:
        if by_weight.dtype == fast.dtype:
            torch.addmm(by_weight, fast.T, inputs, out=by_weight)  # without a further tensor of V x D
        else:
            by_weight += fast.T @ inputs
    if by_bias is not None:
        by_bias += slope.sum(0)
