"""A bidirectional encoder with a pooled classification head.

Shapes: B batch, N length, D dim, C classes.
"""

import torch
from torch import Tensor, nn

from backbones.embedding import TokenEmbedding
from backbones.seeding import seeded
from backbones.stack import Stack


class Encoder(nn.Module):
    """tokens (B, N) and mask (B, N) -> logits (B, C): the mean over real tokens, then a linear layer."""

    def __init__(self, stack: Stack, *, vocabulary: int, classes: int, seed: int = 0):
        from timm.layers import trunc_normal_

        super().__init__()
        self.embedding = TokenEmbedding(vocabulary, stack.dim, seed=seed)
        self.stack = stack
        with seeded(seed, "head"):
            self.head = nn.Linear(stack.dim, classes)
            trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.stack(self.embedding(tokens), mask)
        if mask is None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
        pooled = hidden.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return self.head(pooled)
