"""The relative position encoder of TNN: an MLP from a lag to one Toeplitz coefficient a channel.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, D channels.
"""

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mixers.ops.precision import wide, without_autocast


class RelativePositionEncoder(nn.Module):
    """lags (M,) -> coefficients (M, D): Linear, then `layers` + 1 times norm, ReLU, Linear.

    The norm is x / rms(x), without parameters. Computes in at least float32, under autocast too: bfloat16 cannot
    tell integers above 256 apart.
    """

    def __init__(self, dim: int, *, width: int, layers: int):
        super().__init__()
        if width < 1 or layers < 0:
            raise ValueError(f"rpe_width={width} must be at least 1 and rpe_layers={layers} at least 0")
        widths = [1] + [width] * (layers + 1) + [dim]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, lags: Tensor) -> Tensor:
        first, *rest = cast("list[nn.Linear]", list(self.linears))
        dtype = wide(first.weight)
        with without_autocast(first.weight):
            hidden = _linear(first, lags.to(dtype)[:, None])
            for linear in rest:
                hidden = _linear(linear, F.relu(F.rms_norm(hidden, hidden.shape[-1:], eps=1e-8)))
        return hidden


def _linear(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))
