"""The relative positions of Transformer-LS, as in Transformer-XL (Dai et al., 2019, https://arxiv.org/abs/1901.02860).

Shapes: B batch, H heads, N length, D dim, K = D / H, W window, M compressed vectors, R vectors a chunk.
"""

import torch
from torch import Tensor, nn

from mixers.ops.precision import wide


class Distances(nn.Module):
    """What distances add to scores: of the tokens of a window, and of the compressed vectors before a chunk."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.token = nn.Linear(dim, dim, bias=False)
        self.vector = nn.Linear(dim, dim)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))
        self.token_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))

    def _rows(self, linear: nn.Linear, count: int) -> Tensor:
        """Keys (H, count, K) of the distances count - 1 .. 0."""
        weight = linear.weight
        distance = torch.arange(count, device=weight.device).flip(0)
        encoded = sinusoids(distance, weight.shape[0], wide(weight)).to(weight.dtype)
        return linear(encoded).unflatten(-1, (self.heads, -1)).transpose(0, 1)

    def tokens(self, q: Tensor, count: int) -> Tensor:
        """(B, H, N, K) -> (B, H, N, count): what is added for keys count - 1 .. 0 tokens before each query."""
        return (q + self.token_bias) @ self._rows(self.token, count).transpose(-1, -2)

    def newest(self, q: Tensor, count: int) -> Tensor:
        """(B, H, 1, K) -> (B, H, 1, M): what is added for all M vectors, the last one at distance 0."""
        return q @ self._rows(self.vector, count).transpose(-1, -2)

    def vectors(self, q: Tensor, distance: Tensor) -> Tensor:
        """(B, H, N, K) -> (B, H, N, M): what is added for vectors at `distance` (N, M), anything below 0."""
        scores = self.newest(q, distance.shape[1]).flip(-1)  # by distance 0 .. M-1
        return scores.gather(-1, distance.clamp_min(0).expand(scores.shape))


def sinusoids(distance: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """(…) -> (…, D): sines of all frequencies, then cosines."""
    frequency = 10000 ** -(torch.arange(0, dim, 2, dtype=dtype, device=distance.device) / dim)
    angle = distance[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :dim]
