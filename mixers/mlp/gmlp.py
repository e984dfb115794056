"""gMLP (Liu et al., "Pay Attention to MLPs", NeurIPS 2021, https://arxiv.org/abs/2105.08050, section 2).

Shapes: B batch, N length, D dim, E = expand * D / 2 width of either half, L the largest N.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State, fill_pads, require_causal
from mixers.mlp.length import require_length, require_within


class _SpatialGating(Mixer):
    """The projections, the spatial gating unit and its cache; a subclass gives the initial values."""

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float, bias: bool):
        super().__init__()
        half = int(expand * dim / 2)
        if half < 1:
            raise ValueError(f"expand={expand} times dim={dim} must be at least 2")
        self.causal, self.length = causal, require_length(length)
        self.inner = nn.Linear(dim, 2 * half)
        self.norm = nn.LayerNorm(half)
        self.weight = nn.Parameter(torch.empty(length, length))
        self.bias = nn.Parameter(torch.empty(length)) if bias else None
        self.out = nn.Linear(half, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The spatial weight and bias; the projections have those of nn.Linear."""
        raise NotImplementedError

    def _project(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """u and the normalised v, (B, N, E) each; v is zero at pads."""
        u, v = F.gelu(self.inner(x)).chunk(2, dim=-1)
        return u, fill_pads(self.norm(v), mask)

    def _gate(self, u: Tensor, v: Tensor, start: int) -> Tensor:
        """y (B, N, D) at positions start, start + 1, … of u (B, N, E), from v (B, start + N, E) at all positions."""
        end = v.shape[1]
        require_within(end, self.length)
        weight = self.weight[start:end, :end]
        if self.causal:
            weight = weight.tril(start)
        gate = torch.einsum("ij,bje->bie", weight, v)
        if self.bias is not None:
            gate = gate + self.bias[start:end, None]
        return self.out(u * gate)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._gate(*self._project(x, mask), start=0)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return {"values": self.weight.new_zeros(batch_size, 0, self.out.in_features)}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        u, v = self._project(x)
        return self._gate(u, v, start=0), {"values": v}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u, v = self._project(x[:, None])
        values = torch.cat([state["values"].to(v.dtype), v], dim=1)  # (B, N, E)
        return self._gate(u, values, start=values.shape[1] - 1)[:, 0], {"values": values}


class GatedMLP(_SpatialGating):
    """y = W_out (u * (W v + b)), u and v the halves of GELU(W_in x), v normalised, W (L, L) over tokens.

    N < L reads W[:N, :N] and b[:N]; W is lower triangular when causal. It is the whole block: no channel mixer.
    """

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float = 6.0):
        super().__init__(dim, causal=causal, length=length, expand=expand, bias=True)

    def reset_parameters(self) -> None:
        """W zero and b one, so that y starts as a feed-forward network's (the paper: "near-zero" and ones)."""
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.ones_(self.bias)


class UnbiasedGatedMLP(_SpatialGating):
    """gMLP as the TNN paper compares it: y = W_out (u * W v), without b, W as a linear layer's from L tokens to one.

    Beyond L tokens the authors' code opens no gate, and so gives W_out's bias alone; here it is refused.
    """

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float = 4.0):
        super().__init__(dim, causal=causal, length=length, expand=expand, bias=False)

    def reset_parameters(self) -> None:
        """W uniform within 1 / sqrt(L)."""
        nn.init.uniform_(self.weight, -(self.length**-0.5), self.length**-0.5)
