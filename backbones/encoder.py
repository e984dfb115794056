"""Bidirectional encoders with a pooled classification head, for one sequence and for pairs.

Shapes: B batch, N length, D dim, C classes.
"""

import torch
from torch import Tensor, nn

from backbones.embedding import PixelEmbedding, TokenEmbedding
from backbones.seeding import seeded
from backbones.stack import Stack


class Encoder(nn.Module):
    """tokens (B, N) and mask (B, N) -> logits (B, C): embedding, stack, pooling, head.

    The embedding is a table of `vocabulary` tokens; where that is None, tokens are grey values of pixels. The pooling
    and the head's inner width (None: a linear head) are the stack's.
    """

    features = 1
    """Inputs of the head over D."""

    def __init__(self, stack: Stack, *, vocabulary: int | None, classes: int, seed: int = 0):
        super().__init__()
        if vocabulary is None:
            self.embedding = PixelEmbedding(stack.dim, seed=seed)
        else:
            self.embedding = TokenEmbedding(vocabulary, stack.dim, std=stack.embedding_std, seed=seed)
        self.stack = stack
        with seeded(seed, "head"):
            self.head = _head(self.features * stack.dim, stack.head_width, classes)

    def pooled(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """tokens (B, N) -> (B, D)."""
        hidden = self.stack(self.embedding(tokens), mask)
        return self.stack.pool(hidden, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.pooled(tokens, mask))


class DualEncoder(Encoder):
    """Pairs of sequences (B, 2, N) and mask (B, 2, N) -> logits (B, C).

    Both go through one encoder; the head sees a, b, a * b and a - b (Long Range Arena's and Skyformer's retrieval).
    """

    features = 4

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        both = self.pooled(tokens.flatten(0, 1), None if mask is None else mask.flatten(0, 1))
        a, b = both.unflatten(0, (-1, 2)).unbind(1)
        return self.head(torch.cat([a, b, a * b, a - b], dim=-1))


def _head(features: int, width: int | None, classes: int) -> nn.Module:
    if width is None:
        return _linear(features, classes)
    return nn.Sequential(_linear(features, width), nn.ReLU(), _linear(width, classes))


def _linear(features: int, outputs: int) -> nn.Linear:
    from timm.layers import trunc_normal_

    linear = nn.Linear(features, outputs)
    trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
