"""The relative position encoder of TNN: an MLP from a lag to one Toeplitz coefficient a channel.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3; its inputs and forms are those of tables 8 and 9.
Shapes: M lags, P width, D channels.
"""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.ops.encoder import Lags, encode, row, split
from mixers.ops.precision import wide, without_autocast
from mixers.toeplitz.choices import ACTIVATIONS, NORMS, choose
from mixers.toeplitz.decay import Decay


def integer(lags: Tensor, length: int, width: int) -> Tensor:
    """The lag itself, (M, 1)."""
    return lags[:, None]


def normalised(lags: Tensor, length: int, width: int) -> Tensor:
    """The lag over N, (M, 1): another function of the lag at every N."""
    return lags[:, None] / max(length, 1)


def sincos(lags: Tensor, length: int, width: int) -> Tensor:
    """Sines and cosines of the lag times 10000^(-2i / P) (Vaswani et al., 2017, section 3.5), (M, P) for even P."""
    rate = 10000.0 ** -torch.linspace(0, 1, _pairs(width) + 1, dtype=lags.dtype, device=lags.device)[:-1]
    angle = lags[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _pairs(width: int) -> int:
    return max(width // 2, 1)


WIDEST_FUSED = 128
"""Up to this width, all inner layers of a tile of lags fit on one multiprocessor of a GPU."""

INPUTS = {"integer": integer, "sincos": sincos, "normalised": normalised}


def require_lag_alone(inputs: str) -> str:
    """The name of an input that depends on the lag alone.

    Raises ValueError for one that knows N, which would break what rows with other inputs claim.
    """
    if inputs == "normalised":
        raise ValueError("rpe_input='normalised' depends on N: it is a row of its own, gtu_normalised")
    return inputs


class RelativePositionEncoder(nn.Module):
    """lags (M,) -> coefficients (M, D): Linear, then `layers` + 1 times norm, activation, Linear.

    `inputs` are the features of a lag: integer, sincos, or normalised (which alone looks at N). With `residual`, each
    of the `layers` inner ones adds to what it was given. Norms have no parameters. Computes in at least float32, under
    autocast too: bfloat16 cannot tell integers above 256 apart.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        layers: int,
        inputs: str = "integer",
        activation: str = "relu",
        norm: str = "rms",
        residual: bool = False,
    ):
        super().__init__()
        if width < 1 or layers < 0:
            raise ValueError(f"rpe_width={width} must be at least 1 and rpe_layers={layers} at least 0")
        self.features = choose(INPUTS, "rpe_input", inputs)
        self.activation = choose(ACTIVATIONS, "rpe_activation", activation)
        self.norm = choose(NORMS, "rpe_norm", norm)
        self.width, self.residual = width, residual
        plain = activation == "relu" and norm == "rms" and not residual
        self.fused = plain and inputs != "sincos" and layers > 0 and width <= WIDEST_FUSED
        widths = [2 * _pairs(width) if inputs == "sincos" else 1] + [width] * (layers + 1) + [dim]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, lags: Lags, length: int, decay: Decay | None = None) -> Tensor:
        """M lags -> (M, D), times the decay where one is given."""
        first, *inner, last = cast("list[nn.Linear]", list(self.linears))
        dtype = wide(first.weight)
        with without_autocast(first.weight):
            if self.fused and dtype == torch.float32 and first.weight.is_cuda:
                return self._fused(lags, length, decay)
            at = lags.like(first.weight.to(dtype))
            hidden = _linear(first, self.features(at, length, self.width))
            for linear in inner:
                change = _linear(linear, self.activation(self.norm(hidden)))
                hidden = hidden + change if self.residual else change
            values = _linear(last, self.activation(self.norm(hidden)))
            return values if decay is None else values * decay(at, dtype)

    def _fused(self, lags: Lags, length: int, decay: Decay | None) -> Tensor:
        """The same by kernels: layer by layer, a GPU would mostly wait."""
        first, *inner, last = cast("list[nn.Linear]", list(self.linears))
        parts = [
            *(linear.weight for linear in inner),
            *(linear.bias for linear in (first, *inner)),
            first.weight.flatten(),
        ]
        if first.weight.dtype != torch.float32:
            parts = split(row(parts).float(), parts)  # one step instead of many
        rate = torch.zeros_like(last.bias) if decay is None else decay.rates(torch.float32)
        divisor = float(max(length, 1)) if self.features is normalised else 1.0
        parameters = rate, last.weight, last.bias, *parts
        return encode(lags, divisor, *(part.float().contiguous() for part in parameters))


def _linear(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))
