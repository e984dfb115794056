"""Performer: softmax attention through positive orthogonal random features, FAVOR+.

Choromanski et al., ICLR 2021, https://arxiv.org/abs/2009.14794.
Shapes: B batch, N length, D dim, H heads, K = D / H, F features.
"""

import torch
from torch import Tensor

from mixers.contract import State
from mixers.linear.kernel import KernelAttention
from mixers.ops.linear_attention import causal_product, whole_product

EPSILON = 1e-4
"""What is added to every feature, as in the authors' code."""


class Performer(KernelAttention):
    """Kernel attention whose features, phi(x)_r = exp(w_r^T u - |u|^2 / 2) with u = x / K^(1/4), have products that
    average to exp(q^T k / sqrt(K)) over draws of w (lemma 1); 1 / sqrt(F) cancels and is left out.

    Exponents are lowered by the largest w_r^T u, over r of a query and over r and all keys seen of keys, and then
    EPSILON is added, as in the authors' code. When causal, the keys seen are those so far: what was summed decays where
    a larger one comes, so the output at i is that of the bidirectional form over tokens 0 .. i.
    """

    floor = 1e-9  # below every sum of features that are at least EPSILON: only pads sum to less

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, features: int = 256, chunk: int = 64):
        super().__init__(dim, causal=causal, heads=heads, chunk=chunk, bias=False)
        if features < 1:
            raise ValueError(f"features={features} must be at least 1")
        self.features = features
        self.directions: Tensor
        self.register_buffer("directions", orthogonal_features(features, self.head_dim))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw the directions anew."""
        self.directions.copy_(orthogonal_features(self.features, self.head_dim, generator))

    def exponents(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """w_r^T u (B, H, N, F), the lowest number at pads, and |u|^2 / 2 (B, H, N, 1)."""
        scaled = x * self.head_dim**-0.25
        along = scaled @ self.directions.to(x.dtype).T
        if mask is not None:
            along = along.masked_fill(~mask[:, None, :, None], torch.finfo(x.dtype).min)
        return along, scaled.square().sum(-1, keepdim=True) / 2

    def queries(self, q: Tensor) -> Tensor:
        """Features (B, H, N, F), each query's lowered by its own largest exponent, which cancels but for EPSILON."""
        along, half_square = self.exponents(q)
        return (along - (half_square + along.amax(-1, keepdim=True))).exp() + EPSILON

    def whole(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        along, half_square = self.exponents(k, mask)
        keys = (along - (half_square + along.amax((-1, -2), keepdim=True))).exp() + EPSILON
        return whole_product(self.queries(q), keys, v)

    def running(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        along, half_square = self.exponents(k, mask)
        peaks = torch.cat([state["peak"], along.amax(-1)], dim=-1).cummax(-1).values  # (B, H, 1 + N)
        before, peak = peaks[..., :-1], peaks[..., 1:]
        nothing = before == torch.finfo(k.dtype).min  # no key came before
        log_decay = (before - peak).masked_fill(nothing, 0)
        queries, keys = self.queries(q), (along - (half_square + peak[..., None])).exp()
        sums, after = causal_product(queries, keys, v, state["sums"], log_decay, chunk=self.chunk)
        values = torch.cat([state["values"], v.to(q.dtype)], dim=2)
        totals = values.cumsum(2)  # of the values that EPSILON weighs: without decay
        sums = sums + EPSILON * queries.sum(-1, keepdim=True) * totals[:, :, 1:]
        return sums, {"sums": after, "values": totals[:, :, -1:].clone(), "peak": peaks[..., -1:].clone()}

    def empty(self, batch_size: int) -> State:
        sums = super().empty(batch_size)["sums"]
        peak = sums[:, :, 0, :1] + torch.finfo(sums.dtype).min
        return {"sums": sums, "values": sums[:, :, :1].clone(), "peak": peak}


def orthogonal_features(features: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """Directions (F, K): each is standard normal, and those in a block of K are orthogonal (section 2.4).

    The signs of R make the rotations uniform, which QR alone does not; the lengths are those of normal vectors.
    """
    blocks = -(-features // width)
    normal = torch.randn(2, blocks, width, width, generator=generator, dtype=torch.float64)
    rotations, triangles = torch.linalg.qr(normal[0])
    rotations = rotations * triangles.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    directions = rotations.mT * normal[1].norm(dim=-1, keepdim=True)
    return directions.flatten(0, 1)[:features].to(torch.get_default_dtype())
