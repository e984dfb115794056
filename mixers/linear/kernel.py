"""Attention whose weights are products of features, so that one sum over the keys serves every query.

Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236, section 3.
Shapes: B batch, N length, D dim, H heads, K = D / H, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State, require_causal, split_heads
from mixers.ops.linear_attention import causal_product, whole_product
from mixers.ops.precision import products, wide, without_autocast


class KernelAttention(Mixer):
    """y_i = phi(q_i)^T sum_j phi(k_j) v_j^T / phi(q_i)^T sum_j phi(k_j) (equations 5 and 7).

    The sums run over j <= i when causal. Both are taken at once: the values get a column of ones. A subclass gives
    `phi`, or `whole` and `running` where a feature depends on more than its own token. Decodes with a constant state.
    """

    floor: float = 1e-6  # the smallest denominator: a query's features may all vanish, and pads may be all there is

    def __init__(self, dim: int, *, causal: bool, heads: int, chunk: int, bias: bool):
        super().__init__()
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        self.causal, self.heads, self.chunk = causal, heads, chunk
        self.head_dim = split_heads(dim, heads)
        self.features = self.head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim)

    def phi(self, x: Tensor) -> Tensor:
        """Features (B, H, N, F) of queries or keys (B, H, N, K)."""
        raise NotImplementedError

    def whole(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Numerators and denominators (B, H, N, K + 1) over all keys."""
        return whole_product(self.phi(q), self.phi(k), v)

    def running(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Numerators and denominators (B, H, N, K + 1) over the keys so far, and the state after them."""
        sums, after = causal_product(self.phi(q), self.phi(k), v, state["sums"], chunk=self.chunk)
        return sums, {"sums": after}

    def empty(self, batch_size: int) -> State:
        """The state before the first token."""
        shape = (batch_size, self.heads, self.features, self.head_dim + 1)
        return {"sums": self.out.weight.new_zeros(shape, dtype=wide(self.out.weight))}

    def floors(self, q: Tensor) -> Tensor | float:
        """The smallest denominators, of queries (B, H, N, K)."""
        return self.floor

    def projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (B, N, 3 D)."""
        return self.qkv(x)

    def _split(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (B, H, N, K), and values with the ones (B, H, N, K + 1), all zeros at pads.

        In at least float32, but for values where products are to be in bfloat16.
        """
        qkv = self.projected(x).unflatten(-1, (3, self.heads, self.head_dim)).movedim(1, -2)
        q, k, v = qkv.to(wide(qkv)).unbind(1)
        values = F.pad(v, (0, 1), value=1.0).to(products(x))
        if mask is not None:
            pads = ~mask[:, None, :, None]
            k, values = k.masked_fill(pads, 0), values.masked_fill(pads, 0)
        return q, k, values

    def _output(self, q: Tensor, sums: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, H, N, K + 1) -> (B, N, D): divide by the last column, and project."""
        sums = sums.to(q.dtype)
        mixed = sums[..., :-1] / sums[..., -1:].clamp_min(self.floors(q))
        return self.out(mixed.to(dtype).transpose(1, 2).flatten(2))

    def _scan(self, x: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        q, k, v = self._split(x, mask)
        with without_autocast(x):
            sums, state = self.running(q, k, v, mask, state)
        return self._output(q, sums, x.dtype), state

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.causal:
            return self._scan(x, mask, self.empty(len(x)))[0]
        q, k, v = self._split(x, mask)
        with without_autocast(x):
            sums = self.whole(q, k, v, mask)
        return self._output(q, sums, x.dtype)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return self.empty(batch_size)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        return self._scan(x, None, self.init_state(len(x)))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self._scan(x[:, None], None, state)
        return y[:, 0], state
