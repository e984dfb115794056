"""Token embedding, shared by the models.

Shapes: B batch, N length, D dim.
"""

import math

from torch import Tensor, nn

from backbones.seeding import seeded


class TokenEmbedding(nn.Module):
    """tokens (B, N) -> (B, N, D): drawn from N(0, 1 / D) and scaled by sqrt(D), as fairseq and TNN do."""

    def __init__(self, vocabulary: int, dim: int, *, seed: int):
        super().__init__()
        with seeded(seed, "embedding"):
            self.table = nn.Embedding(vocabulary, dim)
            nn.init.normal_(self.table.weight, std=dim**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens) * math.sqrt(self.table.embedding_dim)
