"""What counting achieves: lines that a language model should fall below."""

import zlib

import numpy as np

AT_ONCE = 2**24  # tokens that are counted at a time

PRIOR = 2.0
"""How many observations the lower order is worth when it fills in for the higher."""


def count_models(train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Bits per byte on `test` (uint8) of count models fitted to `train`, and of gzip.

    The order-k model is p_k(b | c) = (n(c, b) + PRIOR p_{k-1}(b | c')) / (n(c) + PRIOR), c' the context c without its
    oldest byte; p_{-1} is uniform.
    """
    probability = np.full(len(test), 1 / 256)
    bits = {}
    for order in range(3):
        seen, wanted = _contexts(train, order), _contexts(test, order)
        pairs = np.bincount(seen * 256 + train[order:], minlength=256 ** (order + 1))
        totals = pairs.reshape(-1, 256).sum(1)
        matched = pairs[wanted * 256 + test[order:]]
        probability = (matched + PRIOR * probability[-len(wanted) :]) / (totals[wanted] + PRIOR)
        bits[f"order-{order} counts"] = float(-np.log2(probability).mean())
    bits["gzip"] = 8 * len(zlib.compress(test.tobytes(), 9)) / len(test)
    return bits


def _contexts(text: np.ndarray, order: int) -> np.ndarray:
    """The number formed by the `order` bytes before each byte that has so many."""
    context = np.zeros(len(text) - order, dtype=np.int64)
    for offset in range(order):
        context = context * 256 + text[offset : len(text) - order + offset]
    return context


def unigram_perplexity(train: np.ndarray, test: np.ndarray, size: int) -> float:
    """The perplexity of `test` by the shares of the `size` tokens in `train`, one added to each count."""
    counts = np.ones(size, dtype=np.int64)
    for start in range(0, len(train), AT_ONCE):
        counts += np.bincount(train[start : start + AT_ONCE], minlength=size)
    return float(np.exp(-np.log(counts / counts.sum())[test].mean()))
