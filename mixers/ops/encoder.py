"""TNN's relative position encoder with its decay: the definition, and kernels that do the whole of it.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, L inner layers, D channels.
"""

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
    lags: Lags, divisor: float, rate: Tensor, inner: Tensor, last: Tensor, last_bias: Tensor
) -> Tensor:
    """t (M, D) = (V a(h_L) + c) exp(-|k| rate) for lags k: h_0 = w k / divisor + b_0, h_l = W_l a(h_{l-1}) + b_l,
    a(h) = ReLU(h / rms(h)).

    rate (D,), last V (D, P), last_bias c (D,); inner, in one row: all W_l (P, P), all b_l (P,), w (P,).
    """
    width = last.shape[1]
    layers = inner_layers(len(inner), width)
    weights, biases, first = inner.split([layers * width * width, (layers + 1) * width, width])
    biases, at = biases.view(-1, width), lags.like(last)
    hidden = (at / divisor)[:, None] * first + biases[0]
    for weight, bias in zip(weights.view(-1, width, width), biases[1:], strict=True):
        hidden = F.linear(_activate(hidden), weight, bias)
    return F.linear(_activate(hidden), last, last_bias) * torch.exp(-at.abs()[:, None] * rate)


def inner_layers(numbers: int, width: int) -> int:
    """L, of so many inner parameters."""
    return (numbers - 2 * width) // (width * width + width)


def encode(lags: Lags, divisor: float, rate: Tensor, inner: Tensor, last: Tensor, last_bias: Tensor) -> Tensor:
    """`encode_reference` in two kernels on a GPU, stored as (D, M), and its gradients in three; all in float32.

    A second derivative is that of the reference.
    """
    return _Encode.apply(lags, divisor, rate, inner, last, last_bias)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lags: Lags, divisor: float, rate: Tensor, *parameters: Tensor) -> Tensor:
        from mixers.ops.kernels import encoder

        found = encoder.encode(lags.count, lags.first, lags.step, divisor, rate, *parameters)
        coefficients, units, norms = found
        ctx.lags, ctx.divisor = lags, divisor
        kept = coefficients if ctx.needs_input_grad[2] else None  # for the gradient by the decay
        ctx.save_for_backward(rate, *parameters, kept, units, norms)
        return coefficients.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from mixers.ops.kernels import encoder

        rate, *parameters, coefficients, units, norms = ctx.saved_tensors
        lags = ctx.lags
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of the parameters
            again = encode_reference(lags, ctx.divisor, rate, *parameters)
            wanted = [part for part in (rate, *parameters) if part.requires_grad]
            found = iter(torch.autograd.grad(again, wanted, gradients[0], create_graph=True))
            return None, None, *(next(found) if part.requires_grad else None for part in (rate, *parameters))
        inner, last, _ = parameters
        with without_autocast(rate):
            dcoefficients = gradients[0].T.contiguous()
            drate = None if coefficients is None else (dcoefficients * coefficients) @ -lags.like(rate).abs()
            where = (lags.first, lags.step, ctx.divisor)
            found = encoder.gradients(dcoefficients, *where, rate, inner, last, units, norms)
        return None, None, drate, found[0], found[1][: last.numel()].view_as(last), found[1][last.numel() :]


def _activate(hidden: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True) / hidden.shape[-1] ** 0.5 + 1e-8
    return F.relu(hidden / norm)
