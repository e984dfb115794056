"""The relative position encoder of TNN: an MLP from a lag to one Toeplitz coefficient a channel.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: M lags, P width, D channels.
"""

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
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False))

    def forward(self, lags: Tensor) -> Tensor:
        weight = self.linears[0].weight
        dtype = wide(weight)
        with without_autocast(weight):
            hidden = _linear(self.linears[0], lags.to(dtype)[:, None])
            for linear in self.linears[1:]:
                hidden = _linear(linear, F.relu(F.rms_norm(hidden, hidden.shape[-1:], eps=1e-8)))
        return hidden


def _linear(linear: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))
