"""The gated attention unit, FLASH-Quad (Hua et al., ICML 2022, https://arxiv.org/abs/2202.10447, section 2 and code 1).

Shapes: B batch, N length, D dim, E = expand * D inner width, S head_dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.attention.gated import GatedProjections, relative_bias
from mixers.contract import Mixer, State, require_causal
from mixers.ops.squared_relu import bias_matrix, squared_relu_attention


class _GatedAttention(Mixer):
    """Projections around the attention; a subclass says what divides the scores and what is added to them."""

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float, head_dim: int):
        super().__init__()
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        self.causal, self.length = causal, length
        self.projections = GatedProjections(dim, expand=expand, head_dim=head_dim, heads=2)
        self.bias = relative_bias(length, head_dim, causal=causal)

    def normalise(self, length: int, mask: Tensor | None) -> tuple[Tensor, Tensor | int]:
        """The bias and the divisor of the scores (B or none, N, N)."""
        raise NotImplementedError

    def _attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The output (B, N, D), the keys (B, N, S) and the values (B, N, E)."""
        bias, divisor = self.normalise(x.shape[1], mask)
        u, v, (q, k) = self.projections(x, mask=mask)
        mixed = squared_relu_attention(q, k, v, bias, divisor, causal=self.causal)
        return self.projections.output(u, mixed), k, v

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._attend(x, mask)[0]


class GatedAttentionUnit(_GatedAttention):
    """y = W_o (u * relu(q k^T / length + bias_{i-j})^2 v), u, v, z = silu(W x), q and k two affine maps of z, rotated.

    The paper divides by the N of its batch; here the constant is `length`, the largest N, so prefixes agree.
    """

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float = 2.0, head_dim: int = 128):
        super().__init__(dim, causal=causal, length=length, expand=expand, head_dim=head_dim)

    def _require(self, length: int) -> None:
        if length > self.length:
            raise ValueError(f"N={length} is beyond length={self.length}, by which the scores are divided")

    def normalise(self, length: int, mask: Tensor | None) -> tuple[Tensor, int]:
        self._require(length)
        return bias_matrix(self.bias, length, causal=self.causal), self.length

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        inner, _, head_dim = self.projections.widths
        weight = self.projections.out.weight
        return {"keys": weight.new_zeros(batch_size, 0, head_dim), "values": weight.new_zeros(batch_size, 0, inner)}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        if not x.shape[1]:
            return x, self.init_state(len(x))
        y, keys, values = self._attend(x)
        return y, {"keys": keys.clone(), "values": values.clone()}  # views would keep the queries and the gate

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        seen = state["keys"].shape[1]
        self._require(seen + 1)
        u, v, (q, k) = self.projections(x[:, None], start=seen)
        keys = torch.cat([state["keys"].to(k.dtype), k], dim=1)  # (B, N, S)
        values = torch.cat([state["values"].to(v.dtype), v], dim=1)
        bias = self.bias(0, seen + 1).flip(0)  # the newest key has lag 0
        mixed = squared_relu_attention(q, keys, values, bias, self.length)
        return self.projections.output(u, mixed)[:, 0], {"keys": keys, "values": values}


class CurrentLengthGatedAttentionUnit(_GatedAttention):
    """GatedAttentionUnit up to `length`; where N is larger, scores are divided by N and have no bias.

    The form of the TNN paper's comparison (fairseq-evo, flash_quad_attention.py). Its N is that of the batch; here it
    is the number of a row's real tokens, so pads harm nobody. Linear layers start as torch's do, as they do there.
    """

    def __init__(self, dim: int, *, causal: bool, length: int, expand: float = 2.0, head_dim: int = 128):
        super().__init__(dim, causal=causal, length=length, expand=expand, head_dim=head_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in (self.projections.hidden, self.projections.out):
            linear.reset_parameters()

    def normalise(self, length: int, mask: Tensor | None) -> tuple[Tensor, Tensor | int]:
        if length <= self.length:
            return bias_matrix(self.bias, length, causal=self.causal), self.length
        device = self.projections.scale.device
        real = torch.tensor([length], device=device) if mask is None else mask.sum(1)
        real = real[:, None, None]
        bias = bias_matrix(self._padded_bias, length, causal=self.causal)
        return bias.masked_fill(real > self.length, 0), real.clamp_min(self.length)

    def _padded_bias(self, low: int, high: int) -> Tensor:
        """The bias of lags low .. high - 1, zero beyond `length`."""
        first, last = max(low, 1 - self.length), min(high, self.length)
        return F.pad(self.bias(first, last), (first - low, high - last))
