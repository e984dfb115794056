"""The tokens that a masked language model has beside its tokenizer's, and which tokens it must find."""

from dataclasses import dataclass

import numpy as np

from backbones.cross_entropy import IGNORED
from tasks.tokenizer import Tokenizer

SHARE = 0.15
"""Of the tokens is to be found: 80% of it masked, 10% replaced by others, 10% left (BERT, Devlin et al., 2019)."""


@dataclass(frozen=True)
class Special:
    """Token ids behind the tokenizer's own."""

    ordinary: int  # how many the tokenizer has

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Special":
        return cls(tokenizer.size)

    @property
    def begin(self) -> int:
        """Stands before every sequence."""
        return self.ordinary

    @property
    def mask(self) -> int:
        return self.ordinary + 1

    @property
    def pad(self) -> int:
        return self.ordinary + 2

    @property
    def vocabulary_size(self) -> int:
        return self.ordinary + 3


def masked(tokens: np.ndarray, special: Special, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (B, N) of tokens (B, N): SHARE of each sequence is to be found, no begin token and no pad."""
    candidates = tokens < special.ordinary
    counts = candidates.sum(1)
    wanted = np.floor(SHARE * counts + generator.random(len(tokens)))  # 15% in the mean, a whole number for each
    order = np.where(candidates, generator.random(tokens.shape), np.inf).argsort(1).argsort(1)
    chosen = order < np.clip(wanted, 1, counts)[:, None]
    fate = generator.random(tokens.shape)
    others = generator.integers(0, special.ordinary, tokens.shape)
    inputs = np.where(chosen & (fate < 0.8), special.mask, np.where(chosen & (fate >= 0.9), others, tokens))
    return inputs, np.where(chosen, tokens, IGNORED)
