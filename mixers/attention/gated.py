"""The parts of the gated attention unit (Hua et al., ICML 2022, https://arxiv.org/abs/2202.10447, section 2, code 1).

Shapes: B batch, N length, D dim, E = expand * D inner width, S head_dim, H heads made of one shared representation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import fill_pads
from mixers.ops.precision import wide
from mixers.ops.rotary import rotate

STD = 0.02
"""The spread of all initial weights in the paper."""

TABLE = 512
"""Up to this length the bias is one parameter a lag; beyond, it is a product of rotated vectors (code 1)."""


class GatedProjections(nn.Module):
    """u, v and z = silu(W x + b), heads rotate(scale_h * z + offset_h), and the output W_o (u * what is mixed)."""

    def __init__(self, dim: int, *, expand: float, head_dim: int, heads: int):
        super().__init__()
        inner = int(expand * dim)
        if inner < 1:
            raise ValueError(f"expand={expand} times dim={dim} must be at least 1")
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"head_dim={head_dim} must be even and at least 2")
        self.widths = (inner, inner, head_dim)
        self.hidden = nn.Linear(dim, sum(self.widths))
        self.scale = nn.Parameter(torch.empty(heads, head_dim))
        self.offset = nn.Parameter(torch.empty(heads, head_dim))
        self.out = nn.Linear(inner, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of spread 0.02, biases and offsets zero (code 1)."""
        for weight in (self.hidden.weight, self.out.weight, self.scale):
            nn.init.normal_(weight, std=STD)
        for bias in (self.hidden.bias, self.out.bias, self.offset):
            nn.init.zeros_(bias)

    def forward(self, x: Tensor, start: int = 0, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D), its first token at position `start`, gives u and v (B, N, E) and the heads (H, B, N, S)."""
        u, v, z = F.silu(self.hidden(x)).split(self.widths, dim=-1)
        v, z = fill_pads(v, mask), fill_pads(z, mask)
        heads = z * self.scale[:, None, None] + self.offset[:, None, None]
        return u, v, rotate(heads, start).to(v.dtype)

    def output(self, u: Tensor, mixed: Tensor) -> Tensor:
        return self.out(u * mixed)


class LearnedBias(nn.Module):
    """One parameter a lag, for lags below `length`, in the past alone when causal."""

    def __init__(self, length: int, *, causal: bool):
        super().__init__()
        self.earliest = 0 if causal else 1 - length
        self.weight = nn.Parameter(torch.empty(length - self.earliest))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=STD)

    def forward(self, low: int, high: int) -> Tensor:
        """The bias (high - low,) of lags low .. high - 1, in at least float32."""
        return self.weight[low - self.earliest : high - self.earliest].to(wide(self.weight))


class RotaryBias(nn.Module):
    """<rotate(a, i), rotate(b, j)>, which depends on the lag i - j alone, for every lag."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.a = nn.Parameter(torch.empty(head_dim))
        self.b = nn.Parameter(torch.empty(head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.a, self.b):
            nn.init.normal_(weight, std=STD)

    def forward(self, low: int, high: int) -> Tensor:
        """The bias (high - low,) of lags low .. high - 1, in at least float32."""
        dtype = wide(self.a)
        return (rotate(self.a.to(dtype).expand(high - low, -1), low) * self.b.to(dtype)).sum(-1)


def relative_bias(length: int, head_dim: int, *, causal: bool) -> LearnedBias | RotaryBias:
    """The bias of the scores for lags below `length`: learned one by one up to 512, rotary beyond (code 1)."""
    return LearnedBias(length, causal=causal) if length <= TABLE else RotaryBias(head_dim)
