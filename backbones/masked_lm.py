"""A masked language model around a stack, and the classifier of sentences that is fine-tuned from one (RoBERTa, Liu et
al., 2019, https://arxiv.org/abs/1907.11692, as the TNN paper uses it).

Shapes: B batch, N length, D dim, V vocabulary, C classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.cross_entropy import IGNORED, linear_cross_entropy
from backbones.embedding import TokenEmbedding
from backbones.seeding import seeded
from backbones.stack import Stack


class MaskedLM(nn.Module):
    """tokens (B, N) and mask (B, N) -> logits (B, N, V): a dense layer, GELU, a layer norm, then the embedding
    transposed and a bias.
    """

    def __init__(self, stack: Stack, *, vocabulary: int, seed: int = 0):
        super().__init__()
        self.embedding = TokenEmbedding(vocabulary, stack.dim, seed=seed)
        self.stack = stack
        with seeded(seed, "head"):
            self.head = nn.Sequential(_dense(stack.dim, stack.dim), nn.GELU(), nn.LayerNorm(stack.dim))
            self.bias = nn.Parameter(self.embedding.table.weight.new_zeros(vocabulary))

    def forward(self, tokens: Tensor, mask: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Logits, or the mean cross-entropy in nats of the targets (B, N) that are not IGNORED; the head sees those
        alone.
        """
        hidden = self.stack(self.embedding(tokens), mask)
        weight = self.embedding.table.weight
        if targets is None:
            return F.linear(self.head(hidden), weight, self.bias)
        scored = targets != IGNORED
        return linear_cross_entropy(self.head(hidden[scored]), weight, targets[scored], self.bias)


class SentenceClassifier(nn.Module):
    """tokens (B, N) and mask (B, N) -> (B, C): the mean over real tokens, dropout, dense, tanh, dropout, out.

    Embedding and stack are those of a MaskedLM. There is no token that stands for the sentence.
    """

    def __init__(self, stack: Stack, *, vocabulary: int, classes: int, dropout: float, seed: int = 0):
        super().__init__()
        self.embedding = TokenEmbedding(vocabulary, stack.dim, seed=seed)
        self.stack = stack
        with seeded(seed, "head"):
            dense, out = _dense(stack.dim, stack.dim), _dense(stack.dim, classes)
        self.classifier = nn.Sequential(nn.Dropout(dropout), dense, nn.Tanh(), nn.Dropout(dropout), out)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        hidden = self.stack(self.embedding(tokens), mask)
        pooled = hidden.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
        return self.classifier(pooled)


def _dense(dim: int, width: int) -> nn.Linear:
    """A linear layer, its weights from N(0, 0.02), its bias 0, as in BERT."""
    layer = nn.Linear(dim, width)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
