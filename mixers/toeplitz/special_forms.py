"""What TNN's section 3.4 says of other models, as statements that run: each is a Toeplitz matrix, and this is which.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.4.
Shapes: B batch, N length, D channels, W width, S modes, H heads, K width of a head.
"""

import torch
from torch import Tensor

from mixers.ops.precision import wide


def convolution_coefficients(weight: Tensor, length: int) -> Tensor:
    """A causal depthwise convolution with taps (W, D), the newest first, is the causal Toeplitz matrix of (N, D): W
    diagonals, and zeros below."""
    missing = max(length - len(weight), 0)
    return torch.cat([weight[:length], weight.new_zeros(missing, weight.shape[1])])


def state_space_coefficients(poles: Tensor, inputs: Tensor, outputs: Tensor, skip: Tensor, length: int) -> Tensor:
    """A diagonal state space s_i = a s_{i-1} + b x_i, y_i = Re(sum of c s_i) + skip x_i is the causal Toeplitz matrix
    of t_k = Re(sum of c a^k b), to which t_0 adds skip.

    poles a, inputs b and outputs c are complex (D, S), skip (D,); returns (N, D).
    """
    lags = torch.arange(length, device=poles.device)[:, None, None]
    powers = torch.where(lags == 0, torch.ones_like(poles), poles**lags)  # (N, D, S); a pole of 0 has 0^0 = 1
    coefficients = (powers * inputs * outputs).sum(-1).real
    return torch.cat([coefficients[:1] + skip, coefficients[1:]])


def alibi_coefficients(slopes: Tensor, length: int) -> Tensor:
    """ALiBi's bias -slope |i - j| is the Toeplitz matrix of t_k = -slope |k|: slopes (H,) give (2N-1, H)."""
    lags = torch.arange(1 - length, length, device=slopes.device)
    return -lags.abs()[:, None] * slopes


def toeplitz_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(K) + T) V: attention whose relative positions are the Toeplitz matrix T of each head.

    q, k, v (B, H, N, K); bias (H, N, N), as `toeplitz_matrix` gives it with its heads first.
    """
    dtype = wide(q, bias)
    scores = q.to(dtype) @ k.to(dtype).mT / q.shape[-1] ** 0.5 + bias.to(dtype)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
    return (scores.softmax(-1) @ v.to(dtype)).to(v.dtype)
