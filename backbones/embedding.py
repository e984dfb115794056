"""Embeddings of tokens and of pixels, shared by the models.

Shapes: B batch, N length, D dim.
"""

import math

from torch import Tensor, nn

from backbones.seeding import seeded


class TokenEmbedding(nn.Module):
    """tokens (B, N) -> (B, N, D): drawn from N(0, 1 / D) and scaled by sqrt(D), as fairseq and TNN do.

    With `std`, drawn from N(0, std^2) and taken as they are, as BERT and Skyformer do.
    """

    def __init__(self, vocabulary: int, dim: int, *, std: float | None = None, seed: int):
        super().__init__()
        self.scale = math.sqrt(dim) if std is None else 1.0
        with seeded(seed, "embedding"):
            self.table = nn.Embedding(vocabulary, dim)
            nn.init.normal_(self.table.weight, std=dim**-0.5 if std is None else std)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens) * self.scale


class PixelEmbedding(nn.Module):
    """Grey values 0 to 255 (B, N) -> (B, N, D): scaled to -1 to 1, then a linear layer."""

    def __init__(self, dim: int, *, seed: int):
        super().__init__()
        with seeded(seed, "embedding"):
            self.linear = nn.Linear(1, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear((tokens.to(self.linear.weight.dtype)[..., None] - 127.5) / 127.5)
