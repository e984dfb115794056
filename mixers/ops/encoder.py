"""The inner layers of TNN's relative position encoder: the definition, and one kernel for all of them.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, L layers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def encode_reference(lags: Tensor, first: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """a(h_L), (M, P): h_0 = first k + b_0 for lags k (M,), h_l = W_l a(h_{l-1}) + b_l, and a(h) = ReLU(h / rms(h)).

    first (P,), weights (L, P, P), biases (L + 1, P).
    """
    hidden = lags[:, None] * first + biases[0]
    for weight, bias in zip(weights, biases[1:], strict=True):
        hidden = F.linear(_activate(hidden), weight, bias)
    return _activate(hidden)


def encode(lags: Tensor, first: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """`encode_reference` in one kernel on a GPU, and its gradients in another; all in float32.

    A second derivative is that of the reference.
    """
    return _Encode.apply(lags, first, weights, biases)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lags: Tensor, first: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        from mixers.ops.kernels import encoder

        output, hidden = encoder.encode(lags, first, weights, biases)
        ctx.save_for_backward(lags, first, weights, biases, hidden)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from mixers.ops.kernels import encoder

        lags, first, weights, biases, hidden = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of the parameters
            output = encode_reference(lags, first, weights, biases)
            return None, *torch.autograd.grad(output, (first, weights, biases), gradients[0], create_graph=True)
        return None, *encoder.gradients(gradients[0].contiguous(), lags, weights, hidden)


def _activate(hidden: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True) / hidden.shape[-1] ** 0.5 + 1e-8
    return F.relu(hidden / norm)
