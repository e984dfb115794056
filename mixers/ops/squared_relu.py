"""Attention by squared ReLU instead of softmax (Hua et al., ICML 2022, https://arxiv.org/abs/2202.10447, equation 4).

Shapes: N queries, M keys, K width of queries and keys, V width of values.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mixers.ops.precision import wide


def squared_relu_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, divisor: float | Tensor, *, causal: bool = False
) -> Tensor:
    """relu(Q K^T / divisor + bias)^2 V: q (..., N, K), k (..., M, K), v (..., M, V) -> (..., N, V).

    bias and divisor broadcast to the scores (..., N, M). causal: query i sees keys 0 .. i, and then N = M.
    """
    scores = (q @ k.transpose(-1, -2)).to(wide(q)) / divisor + bias
    weights = F.relu(scores).square()
    return (weights.tril() if causal else weights).to(v.dtype) @ v


def bias_matrix(bias: Callable[[int, int], Tensor], length: int, *, causal: bool) -> Tensor:
    """Entry [i, j] (N, N) is the bias of lag i - j, zero for j > i when causal.

    bias(low, high) gives that of lags low .. high - 1.
    """
    values = bias(0 if causal else 1 - length, length)
    if causal:
        values = F.pad(values, (length - 1, 0))
    return values.flip(0).unfold(0, length, 1).flip(0)  # row i of the unfolded one has lags i, i - 1, …
