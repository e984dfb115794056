"""cosFormer: rectified features, weighed by the cosine of the distance.

Qin et al., ICLR 2022, https://arxiv.org/abs/2202.08791.
Shapes: B batch, N length, D dim, H heads, K = D / H; M the distance at which the weight would vanish.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import State
from mixers.linear.kernel import KernelAttention
from mixers.ops.exact_linear import exact_linear
from mixers.ops.linear_attention import causal_product, whole_product
from mixers.ops.precision import wide, without_autocast


class _Cosine(KernelAttention):
    """Token i weighs token j by relu(q_i)^T relu(k_j) cos(pi / 2 (i - j) / M), over the sum of weights:
    the paper's cos-based re-weighting.

    A subclass says what M is. The size of a query cancels, so queries are divided by theirs: else the gradient along
    a small one, which is zero, would be rounding magnified by 1 / size.
    """

    def __init__(self, dim: int, *, causal: bool, heads: int, chunk: int):
        super().__init__(dim, causal=causal, heads=heads, chunk=chunk, bias=True)
        self.features = 2 * self.head_dim

    def reach(self, length: int) -> int:
        """M for a sequence of `length` tokens."""
        raise NotImplementedError

    def floors(self, q: Tensor) -> Tensor:
        return self.floor / sizes(F.relu(q))

    def projected(self, x: Tensor) -> Tensor:
        # The output jumps where the last positive feature that a query shares with its keys vanishes. What lies within
        # a rounding of that jump would fall on either side, so sums of queries and keys are taken in float64.
        dtype, width = wide(x, self.qkv.weight), 2 * self.heads * self.head_dim
        x, weight, bias = x.to(dtype), self.qkv.weight.to(dtype), self.qkv.bias.to(dtype)
        with without_autocast(x):
            queries_and_keys = exact_linear(x, weight[:width], bias[:width])
            return torch.cat([queries_and_keys, F.linear(x, weight[width:], bias[width:])], dim=-1)

    def turned(self, features: Tensor, start: int, reach: int) -> Tensor:
        """Features (B, H, N, K) times cosine and sine of their position's angle, (B, H, N, 2 K):
        products of queries and keys then hold cos(a - b) = cos a cos b + sin a sin b."""
        position = torch.arange(start, start + features.shape[2], dtype=features.dtype, device=features.device)
        angle = math.pi / 2 / reach * position
        turns = torch.stack([angle.cos(), angle.sin()], dim=-1)
        return (features[..., None, :] * turns[..., None]).flatten(-2)

    def features_of(self, q: Tensor, k: Tensor, start: int, reach: int) -> tuple[Tensor, Tensor]:
        """Features (B, H, N, 2 K) of queries and of keys, whose first is token `start`."""
        rectified = F.relu(q)
        return self.turned(rectified / sizes(rectified), start, reach), self.turned(F.relu(k), start, reach)

    def whole(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return whole_product(*self.features_of(q, k, 0, self.reach(q.shape[2])), v)

    def running(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        start, end = state["tokens"], state["tokens"] + q.shape[2]
        q, k = self.features_of(q, k, start, self.reach(end))
        sums, after = causal_product(q, k, v, state["sums"], chunk=self.chunk)
        return sums, {"sums": after, "tokens": end}

    def empty(self, batch_size: int) -> State:
        return {**super().empty(batch_size), "tokens": 0}


def sizes(features: Tensor) -> Tensor:
    """Sums (B, H, N, 1) of features that are not negative, above zero."""
    return features.sum(-1, keepdim=True).clamp_min(1e-12)


class CosineAttention(_Cosine):
    """cosFormer with M = `length`, the largest N, whatever N is: so it decodes, with a constant state."""

    def __init__(self, dim: int, *, causal: bool, length: int, heads: int = 4, chunk: int = 64):
        super().__init__(dim, causal=causal, heads=heads, chunk=chunk)
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        self.length = length

    def reach(self, length: int) -> int:
        if length > self.length:
            raise ValueError(f"N={length} is beyond length={self.length}, the M that the weights are built for")
        return self.length


class CurrentLengthCosineAttention(_Cosine):
    """cosFormer as the TNN paper compared it: M = N, so at every N it is another function; denominators from 1e-4."""

    floor = 1e-4

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, chunk: int = 64):
        super().__init__(dim, causal=causal, heads=heads, chunk=chunk)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.qkv.weight[2 * self.heads * self.head_dim :], gain=1 / math.sqrt(2))  # values
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def reach(self, length: int) -> int:
        return max(length, 1)

    def init_state(self, batch_size: int) -> State:
        raise NotImplementedError("the weights of all tokens depend on N: with M = N, cosFormer cannot decode")
