"""Language modelling over bytes: the metric is bits per byte."""

import hashlib

import numpy as np

from tasks.counts import count_models
from tasks.language_model import LanguageModel

VOCABULARY = 256
PIECE = 4096  # bytes that a held-out document gives at a time


class ByteModel(LanguageModel):
    """Predict the next byte of documents, given as three splits."""

    metric = "bits_per_byte"
    tokenizer = None

    def __init__(
        self,
        splits: dict[str, list[bytes]],
        *,
        length: int,
        validation_bytes: int,
        test_bytes: int,
        data_note: str,
    ):
        super().__init__(
            vocabulary_size=VOCABULARY,
            length=length,
            train=_array(b"".join(splits["train"])),
            validation=_array(_spread(splits["validation"], validation_bytes)),
            test=_array(_spread(splits["test"], test_bytes)),
        )
        self.data_note = data_note
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

    def evaluate(self, model, *, test: bool) -> dict[str, float]:
        """Bits per byte over windows that do not overlap, all positions scored."""
        text = self._test if test else self._validation
        return {self.metric: self.value(*self.nats(model, [text], self.length))}

    def value(self, nats: float, tokens: int) -> float:
        return nats / tokens / float(np.log(2))

    def baselines(self, *, test: bool) -> dict[str, float]:
        """Count models of order 0, 1 and 2 that saw the whole training split, and gzip on the held-out text alone."""
        return count_models(self._train, self._test if test else self._validation)

    def bar(self) -> tuple[str, str]:
        return "order-1 counts", "has not yet learnt more than bigrams"

    def extrapolation_streams(self, longest: int) -> list[np.ndarray]:
        """Pieces as long as the longest, from all through the test documents that are long enough, not from their
        beginnings alone; about half as many bytes as the test has.
        """
        documents = [_array(document) for document in self._test_documents if len(document) > longest]
        pieces = [
            document[start : start + longest + 1]
            for document in documents
            for start in range(0, len(document) - longest, longest)
        ]
        limit = max(1, len(self._test) // (2 * longest))
        chosen = np.linspace(0, len(pieces) - 1, min(limit, len(pieces))).round().astype(int)
        return [pieces[index] for index in chosen]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode(errors="replace")


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
