"""Language modelling over bytes: the metric is bits per byte.

Shapes: B batch, N length.
"""

import hashlib
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.causal_lm import CausalLM
from backbones.seeding import derive
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of
from tasks.counts import count_models

VOCABULARY = 256
EVALUATED_AT_ONCE = 8192  # tokens; bounds the memory of an evaluation
PIECE = 4096  # bytes that a held-out document gives at a time


class ByteModel:
    """Predict the next byte of documents, given as three splits."""

    causal = True
    grid = None
    metric = "bits_per_byte"
    higher_is_better = False

    def __init__(
        self,
        splits: dict[str, list[bytes]],
        *,
        length: int,
        validation_bytes: int,
        test_bytes: int,
        data_note: str,
    ):
        self.length = length
        self.data_note = data_note
        self._train = _array(b"".join(splits["train"]))
        self._validation = _array(_spread(splits["validation"], validation_bytes))
        self._test = _array(_spread(splits["test"], test_bytes))
        self._test_documents = splits["test"]
        for name, part in (("train", self._train), ("validation", self._validation), ("test", self._test)):
            if len(part) <= length:
                raise ValueError(
                    f"the {name} split holds {len(part)} bytes, and data.length={length} needs more: give more text"
                )
        digest = hashlib.sha256()
        for documents in splits.values():
            text = b"".join(documents)
            digest.update(len(text).to_bytes(8, "big") + text)
        self.data_hash = digest.hexdigest()[:16]

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return CausalLM(build(Stack), vocabulary=VOCABULARY, seed=seed)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Random windows of the training text: inputs and targets (B, N)."""
        generator = np.random.default_rng(derive(seed, f"batch.{step}"))
        starts = generator.integers(0, len(self._train) - self.length, size=size)
        windows = self._train[starts[:, None] + np.arange(self.length + 1)]
        return _inputs_and_targets(windows)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        tokens, targets = batch
        return F.cross_entropy(model(tokens).flatten(0, 1).float(), targets.flatten())

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """Bits per byte over windows that do not overlap, all positions scored."""
        text = self._test if test else self._validation
        return {self.metric: self._bits(model, _windows(text, self.length))}

    def _bits(self, model: nn.Module, *groups: np.ndarray) -> float:
        """Bits per byte over all windows of all groups (windows, length + 1)."""
        total, count = 0.0, 0
        with torch.no_grad():
            for windows in groups:
                rows = max(1, EVALUATED_AT_ONCE // windows.shape[1])
                for start in range(0, len(windows), rows):
                    part = windows[start : start + rows]
                    batch = tuple(tensor.to(device_of(model)) for tensor in _inputs_and_targets(part))
                    scored = batch[1].numel()
                    total, count = total + self.loss(model, batch).item() * scored, count + scored
        return total / count / float(np.log(2))

    def baselines(self, *, test: bool) -> dict[str, float]:
        """Count models of order 0, 1 and 2 that saw the whole training split, and gzip on the held-out text alone."""
        return count_models(self._train, self._test if test else self._validation)

    def bar(self) -> tuple[str, str]:
        return "order-1 counts", "has not yet learnt more than bigrams"

    def sample(self, count: int, length: int) -> Tensor:
        return _inputs_and_targets(_windows(self._validation, length)[:count])[0]

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        """Bits per byte by length, over the same bytes for each: pieces as long as the longest, from all through the
        test documents that are long enough, not from their beginnings alone.

        Lengths beyond the longest document are left out, and those that the model refuses with a ValueError.
        """
        longest = max((len(document) - 1 for document in self._test_documents), default=0)
        lengths = [length for length in lengths if length <= longest]
        if not lengths:
            return {}
        span = max(lengths)
        documents = [_array(document) for document in self._test_documents if len(document) > span]
        pieces = np.concatenate([_windows(document, span) for document in documents])
        limit = max(1, len(self._test) // (2 * span))
        pieces = pieces[np.linspace(0, len(pieces) - 1, min(limit, len(pieces))).round().astype(int)]
        values = {}
        for length in lengths:
            whole = np.concatenate([_windows(piece, length) for piece in pieces])
            tails = np.stack([piece[span - span % length :] for piece in pieces])  # what the windows do not cover
            with suppress(ValueError):
                values[length] = self._bits(model, whole, tails) if span % length else self._bits(model, whole)
        return values


def _spread(documents: list[bytes], limit: int) -> bytes:
    """About `limit` bytes from the beginnings of as many documents as possible, more of each where they are few."""
    pieces, size, start = [], 0, 0
    while size < limit and any(len(document) > start for document in documents):
        for document in documents:
            piece = document[start : start + min(PIECE, limit - size)]
            pieces.append(piece)
            size += len(piece)
        start += PIECE
    return b"".join(pieces)


def _array(text: bytes) -> np.ndarray:
    return np.frombuffer(text, dtype=np.uint8)


def _windows(text: np.ndarray, length: int) -> np.ndarray:
    """(windows, length + 1): neighbours share one byte, so that each byte but the first is predicted once."""
    starts = np.arange(0, len(text) - length, length)
    return text[starts[:, None] + np.arange(length + 1)]


def _inputs_and_targets(windows: np.ndarray) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(windows.astype(np.int64))
    return tokens[:, :-1], tokens[:, 1:]
