"""Sequences of different lengths as one batch."""

import numpy as np


def padded(sequences: list[np.ndarray], pad: int) -> np.ndarray:
    """(sequences, N), N the longest, with `pad` on the right."""
    batch = np.full((len(sequences), max(map(len, sequences))), pad, dtype=np.int64)
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = sequence
    return batch
