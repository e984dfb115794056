"""Softmax attention with absolute, rotary or linearly biased positions.

Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; RoPE: Su et al., 2021, https://arxiv.org/abs/2104.09864,
equation 34; ALiBi: Press et al., ICLR 2022, https://arxiv.org/abs/2108.12409, section 3.
Shapes: B batch, N length, D dim, H heads, K = D / H.
"""

import math

import torch
from torch import Tensor, nn

from mixers.contract import Mixer, State, require_causal, split_heads
from mixers.ops.attention import attention, attention_backend, require_backend
from mixers.ops.precision import wide
from mixers.ops.rotary import rotate


class _Attention(Mixer):
    """Projections, padding and the key-value cache; a subclass says how positions enter.

    Queries, keys and values have no bias: a bias of the keys would move every score of a row alike, and so nothing.
    """

    def __init__(self, dim: int, *, causal: bool, heads: int, dropout: float, backend: str):
        super().__init__()
        require_backend(backend)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must lie in [0, 1)")
        self.causal, self.heads, self.dropout, self.backend = causal, heads, dropout, backend
        self.head_dim = split_heads(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def rotate(self, x: Tensor, start: int) -> Tensor:
        """Queries or keys (B, H, N, K) at positions start, start + 1, …, as the scores shall see them."""
        return x

    def bias(self, queries: int, keys: int) -> Tensor | None:
        """What is added to the scores (H, queries, keys) of the last `queries` positions."""
        return None

    def _project(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, K) of x (B, N, D), whose first token stands at `start`."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).movedim(1, -2).unbind(1)
        return self.rotate(q, start), self.rotate(k, start), v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            k, v = (part.masked_fill(~mask[:, None, :, None], 0) for part in (k, v))
        bias = self.bias(q.shape[2], k.shape[2])
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, causal=causal, bias=bias, mask=mask, dropout=dropout, backend=self.backend)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._attend(*self._project(x, 0), self.causal, mask)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        empty = self.out.weight.new_zeros(batch_size, self.heads, 0, self.head_dim)
        return {"keys": empty, "values": empty}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        q, k, v = self._project(x, 0)
        return self._attend(q, k, v, causal=True), {"keys": k, "values": v}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self._project(x[:, None], start=state["keys"].shape[2])
        keys = torch.cat([state["keys"].to(k.dtype), k], dim=2)  # (B, H, N, K)
        values = torch.cat([state["values"].to(v.dtype), v], dim=2)
        y = self._attend(q, keys, values, causal=False)  # the newest token sees all that is cached
        return y[:, 0], {"keys": keys, "values": values}

    def backend_for(self, x: Tensor, mask: Tensor | None = None) -> str:
        return attention_backend(self.backend, x, plain=self.bias(1, 1) is None and mask is None)


class SoftmaxAttention(_Attention):
    """softmax(Q K^T / sqrt(K)) V. It knows no order: the backbone adds absolute positions."""

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, dropout: float = 0.0, backend: str = "auto"):
        super().__init__(dim, causal=causal, heads=heads, dropout=dropout, backend=backend)


class RotaryAttention(_Attention):
    """Softmax attention whose queries and keys turn by position * base^(-2i / K), so scores know i - j alone."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        heads: int = 4,
        base: float = 10000.0,
        dropout: float = 0.0,
        backend: str = "auto",
    ):
        super().__init__(dim, causal=causal, heads=heads, dropout=dropout, backend=backend)
        if self.head_dim % 2:
            raise ValueError(f"rotary positions need an even width of heads, not dim / heads = {self.head_dim}")
        if base <= 1:
            raise ValueError(f"base={base} must be above 1")
        self.base = base

    def rotate(self, x: Tensor, start: int) -> Tensor:
        return rotate(x, start, self.base)


class AlibiAttention(_Attention):
    """Softmax attention with -slope |i - j| added to the scores; symmetric when bidirectional."""

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, dropout: float = 0.0, backend: str = "auto"):
        super().__init__(dim, causal=causal, heads=heads, dropout=dropout, backend=backend)
        self.slopes: Tensor
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)))

    def bias(self, queries: int, keys: int) -> Tensor:
        slopes = self.slopes.to(wide(self.slopes))
        position = torch.arange(keys, device=slopes.device)
        distance = (position[keys - queries :, None] - position).abs()  # (queries, keys)
        return -slopes[:, None, None] * distance


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8h / heads) for h = 1 .. heads; between powers of two, those of the power below, then every other of twice
    that power, as in the authors' code."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    return slopes + [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * (heads - power), 2)]
