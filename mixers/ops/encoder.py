"""TNN's relative position encoder with its decay: the definition, and kernels that do the whole of it.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, L inner layers, D channels.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.ops.precision import without_autocast


@dataclass(frozen=True)
class Lags:
    """`count` lags from `first` on, `step` apart, which is above 0."""

    count: int
    first: float = 0.0
    step: float = 1.0

    def like(self, tensor: Tensor) -> Tensor:
        """They, (M,), on the device and of the dtype of a tensor."""
        return self.first + self.step * torch.arange(self.count, device=tensor.device, dtype=tensor.dtype)


def encode_reference(
    lags: Lags, divisor: float, rate: Tensor, last: Tensor, last_bias: Tensor, *inner: Tensor
) -> Tensor:
    """t (M, D) = (V a(h_L) + c) exp(-|k| rate) for lags k: h_0 = w k / divisor + b_0, h_l = W_l a(h_{l-1}) + b_l,
    a(h) = ReLU(h / rms(h)).

    rate (D,), last V (D, P), last_bias c (D,); inner: all W_l (P, P), all b_l (P,), w (P,).
    """
    layers = inner_layers(inner)
    weights, biases, first = inner[:layers], inner[layers:-1], inner[-1]
    at = lags.like(last)
    hidden = (at / divisor)[:, None] * first + biases[0]
    for weight, bias in zip(weights, biases[1:], strict=True):
        hidden = F.linear(_activate(hidden), weight, bias)
    return F.linear(_activate(hidden), last, last_bias) * torch.exp(-at.abs()[:, None] * rate)


def inner_layers(inner: Sized) -> int:
    """L, of the inner parameters."""
    return len(inner) // 2 - 1


def encode(lags: Lags, divisor: float, rate: Tensor, last: Tensor, last_bias: Tensor, *inner: Tensor) -> Tensor:
    """`encode_reference` in two kernels on a GPU, stored as (D, M), and its gradients in three; all in float32.

    A second derivative is that of the reference.
    """
    return _Encode.apply(lags, divisor, rate, last, last_bias, *inner)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lags: Lags, divisor: float, rate: Tensor, last: Tensor, last_bias: Tensor, *inner: Tensor
    ) -> Tensor:
        from mixers.ops.kernels import encoder

        found = encoder.encode(lags.count, lags.first, lags.step, divisor, rate, list(inner), last, last_bias)
        coefficients, *known = found
        ctx.lags, ctx.divisor = lags, divisor
        kept = coefficients if ctx.needs_input_grad[2] else None  # for the gradient by the decay
        ctx.save_for_backward(kept, *known, rate, last, last_bias, *inner)
        return coefficients.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from mixers.ops.kernels import encoder

        coefficients, units, norms, alive, *parameters = ctx.saved_tensors
        rate, last, last_bias, *inner = parameters
        lags = ctx.lags
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of the parameters
            again = encode_reference(lags, ctx.divisor, *parameters)
            wanted = [part for part in parameters if part.requires_grad]
            found = iter(torch.autograd.grad(again, wanted, gradients[0], create_graph=True))
            return None, None, *(next(found) if part.requires_grad else None for part in parameters)
        with without_autocast(rate):
            dcoefficients = gradients[0].T.contiguous()
            drate = None if coefficients is None else (dcoefficients * coefficients) @ -lags.like(rate).abs()
            where = (lags.first, lags.step, ctx.divisor)
            found = encoder.gradients(dcoefficients, *where, rate, inner, last, units, norms, alive)
        *dinner, dlast, dlast_bias = split(found, (*inner, last, last_bias))
        return None, None, drate, dlast, dlast_bias, *dinner


def row(tensors: Sequence[Tensor]) -> Tensor:
    """All their numbers."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def split(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors whose numbers stand in a row, of the shapes of others."""
    parts = row.split([other.numel() for other in like])
    return [part.view_as(other) for part, other in zip(parts, like, strict=True)]


def _activate(hidden: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True) / hidden.shape[-1] ** 0.5 + 1e-8
    return F.relu(hidden / norm)
