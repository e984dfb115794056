"""Rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864, equation 34)."""

import torch
from torch import Tensor

from mixers.ops.precision import wide


def rotate(x: Tensor, start: int, base: float = 10000.0) -> Tensor:
    """x (..., N, K) at positions start, start + 1, …, turned by position * base^(-2i / K): products know i - j alone.

    K is even; channels 2i and 2i + 1 turn together. Where positions are halves apart (channels i and i + K / 2), the
    function is the same with the channels in another order.
    """
    dtype = wide(x)
    frequency = base ** -torch.linspace(0, 1, x.shape[-1] // 2 + 1, dtype=dtype, device=x.device)[:-1]
    position = torch.arange(start, start + x.shape[-2], dtype=dtype, device=x.device)
    angle = position[:, None] * frequency  # (N, K / 2)
    even, odd = x.to(dtype).unflatten(-1, (-1, 2)).unbind(-1)
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, dim=-1).flatten(-2).to(x.dtype)
