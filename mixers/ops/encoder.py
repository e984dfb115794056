"""TNN's relative position encoder with its decay: the definition, and kernels that do the whole of it.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, L inner layers, D channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.ops.precision import without_autocast


def encode_reference(
    lags: Tensor,
    divisor: float,
    log_decay: Tensor,
    first: Tensor,
    weights: Tensor,
    biases: Tensor,
    last: Tensor,
    last_bias: Tensor,
) -> Tensor:
    """t (M, D) = (V a(h_L) + c) exp(|k| log_decay) for lags k (M,): h_0 = first k / divisor + b_0, h_l = W_l a(h_{l-1})
    + b_l, a(h) = ReLU(h / rms(h)).

    log_decay (D,), first (P,), weights W (L, P, P), biases b (L + 1, P), last V (D, P), last_bias c (D,).
    """
    hidden = (lags / divisor)[:, None] * first + biases[0]
    for weight, bias in zip(weights, biases[1:], strict=True):
        hidden = F.linear(_activate(hidden), weight, bias)
    return F.linear(_activate(hidden), last, last_bias) * torch.exp(lags.abs()[:, None] * log_decay)


def encode(lags: Tensor, divisor: float, log_decay: Tensor, *parameters: Tensor) -> Tensor:
    """`encode_reference` in one kernel on a GPU, stored as (D, M), and its gradients in three; all in float32.

    A second derivative is that of the reference.
    """
    return _Encode.apply(lags, divisor, log_decay, *parameters)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lags: Tensor, divisor: float, log_decay: Tensor, *parameters: Tensor) -> Tensor:
        from mixers.ops.kernels import encoder

        coefficients, hidden = encoder.encode(lags, divisor, log_decay, *parameters)
        ctx.divisor = divisor
        kept = coefficients if ctx.needs_input_grad[2] else None  # for the gradient by the decay
        ctx.save_for_backward(lags, log_decay, *parameters, kept, hidden)
        return coefficients.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from mixers.ops.kernels import encoder

        lags, log_decay, *parameters, coefficients, hidden = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of the parameters
            again = encode_reference(lags, ctx.divisor, log_decay, *parameters)
            wanted = [part for part in (log_decay, *parameters) if part.requires_grad]
            found = iter(torch.autograd.grad(again, wanted, gradients[0], create_graph=True))
            return None, None, *(next(found) if part.requires_grad else None for part in (log_decay, *parameters))
        _, weights, _, last, _ = parameters
        with without_autocast(lags):
            dcoefficients = gradients[0].T.contiguous()
            dlog_decay = None if coefficients is None else (dcoefficients * coefficients) @ lags.abs()
            inner, outer = encoder.gradients(dcoefficients, lags, ctx.divisor, log_decay, weights, last, hidden)
        found = inner[0, :, 0], inner[1:, :, :-1], inner[..., -1], outer[:, :-1], outer[:, -1]
        return None, None, dlog_decay, *found


def _activate(hidden: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True) / hidden.shape[-1] ** 0.5 + 1e-8
    return F.relu(hidden / norm)
