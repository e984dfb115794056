"""Language modelling over the tokens of a tokenizer: the metric is the perplexity."""

import hashlib

import numpy as np
from torch import nn

from tasks.counts import unigram_perplexity
from tasks.language_model import LanguageModel
from tasks.tokenizer import Tokenizer


class TokenModel(LanguageModel):
    """Predict the next token of text, given as three streams of rows that end in the tokenizer's end token.

    `words` counts the words of the held-out splits. Raises ValueError for a split of one window or less.
    """

    metric = "perplexity"

    def __init__(
        self,
        streams: dict[str, np.ndarray],
        tokenizer: Tokenizer,
        *,
        words: dict[str, int],
        length: int,
        data_note: str,
    ):
        for name, stream in streams.items():
            if len(stream) <= length:
                raise ValueError(f"the {name} split holds {len(stream)} tokens, and data.length={length} needs more")
        super().__init__(
            vocabulary_size=tokenizer.size,
            length=length,
            train=streams["train"],
            validation=_after_end(streams["validation"], tokenizer),
            test=_after_end(streams["test"], tokenizer),
        )
        self._tokenizer, self._words = tokenizer, words
        self.tokenizer = tokenizer.vocabulary
        self.data_note = data_note
        self.data_hash = hash_of(streams, tokenizer)

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """exp of the nats a token, and a word, in windows that do not overlap, every token scored once."""
        stream, split = (self._test, "test") if test else (self._validation, "validation")
        nats, tokens = self.nats(model, [stream], self.length)
        return {self.metric: self.value(nats, tokens), "word_perplexity": self.value(nats, self._words[split])}

    def value(self, nats: float, tokens: int) -> float:
        return float(np.exp(nats / tokens))

    def baselines(self, *, test: bool) -> dict[str, float]:
        """The perplexity of how often each token occurs in the training split."""
        held_out = self._test if test else self._validation
        return {"unigram counts": unigram_perplexity(self._train, held_out[1:], self.vocabulary_size)}

    def bar(self) -> tuple[str, str]:
        return "unigram counts", "has not yet learnt more than how often each token occurs"

    def extrapolation_streams(self, longest: int) -> list[np.ndarray]:
        """All of the test split, as the TNN paper has it (its table 15)."""
        return [self._test] if len(self._test) > longest else []

    def encode(self, text: str) -> list[int]:
        return next(self._tokenizer.encode([text]))

    def decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens)


def hash_of(streams: dict[str, np.ndarray], tokenizer: Tokenizer) -> str:
    """One hash of all tokens and of what they mean."""
    digest = hashlib.sha256(tokenizer.vocabulary.encode())
    for stream in streams.values():
        digest.update(len(stream).to_bytes(8, "big"))
        digest.update(stream.data)
    return digest.hexdigest()[:16]


def _after_end(stream: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """The stream behind one more end token, so that its first token is predicted too."""
    return np.concatenate([np.array([tokenizer.end], stream.dtype), stream])
