"""Linear attention with the feature map elu(x) + 1 (Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236).

Shapes: B batch, N length, D dim, H heads, K = D / H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State, require_causal, split_heads
from mixers.ops.linear_attention import causal_product
from mixers.ops.precision import wide, without_autocast

FLOOR = 1e-6
"""The smallest denominator: all features of a query underflow where its entries are far below zero."""


class LinearAttention(Mixer):
    """y_i = phi(q_i)^T sum_j phi(k_j) v_j^T / phi(q_i)^T sum_j phi(k_j), phi = elu + 1 (equations 5 and 7).

    The sums run over j <= i when causal. The features are not scaled by 1 / sqrt(K). Decodes with a constant state.
    """

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, chunk: int = 64):
        super().__init__()
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        self.causal, self.heads, self.chunk = causal, heads, chunk
        self.head_dim = split_heads(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def _project(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features of queries and keys (B, H, N, K), and values with a column of ones (B, H, N, K + 1)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).movedim(1, -2).unbind(1)
        dtype = wide(v)
        features = [F.elu(part.to(dtype)) + 1 for part in (q, k)]
        values = F.pad(v.to(dtype), (0, 1), value=1.0)  # the ones sum to the denominator
        if mask is not None:
            pads = ~mask[:, None, :, None]
            features[1], values = features[1].masked_fill(pads, 0), values.masked_fill(pads, 0)
        return features[0], features[1], values

    def _normalise(self, sums: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, H, N, K + 1) -> (B, N, D): divide by the last column, and project."""
        mixed = sums[..., :-1] / sums[..., -1:].clamp_min(FLOOR)
        return self.out(mixed.to(dtype).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.causal:
            return self._scan(x, mask)[0]
        q, k, v = self._project(x, mask)
        with without_autocast(x):
            sums = q @ (k.transpose(-1, -2) @ v)
        return self._normalise(sums, x.dtype)

    def _scan(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k, v = self._project(x, mask)
        empty = v.new_zeros(x.shape[0], self.heads, self.head_dim, self.head_dim + 1)
        with without_autocast(x):
            sums, state = causal_product(q, k, v, empty, chunk=self.chunk)
        return self._normalise(sums, x.dtype), state

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        weight = self.out.weight
        shape = (batch_size, self.heads, self.head_dim, self.head_dim + 1)
        return {"sums": weight.new_zeros(shape, dtype=wide(weight))}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        y, sums = self._scan(x)
        return y, {"sums": sums}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self._project(x[:, None])  # (B, H, 1, ·)
        with without_autocast(x):
            sums = state["sums"] + k.transpose(-1, -2) @ v  # (B, H, K, K + 1)
            y = q @ sums
        return self._normalise(y, x.dtype)[:, 0], {"sums": sums}
