"""Induction heads: say what followed a special token when it stood there before (Olsson et al., 2022,
https://arxiv.org/abs/2209.11895; Fu et al., ICLR 2023, https://arxiv.org/abs/2212.14052).
"""

from dataclasses import dataclass

import numpy as np

from tasks.recall.questions import Recall, require_at_least


@dataclass
class Data:
    """Options of the data."""

    length: int = 64
    symbols: int = 16  # different ones, the special token apart
    validation: int = 500  # sequences, with one answer each
    test: int = 1000


def load(data: Data) -> Recall:
    """The task.

    Raises ValueError for options out of range.
    """
    require_at_least(data, length=3, symbols=2, validation=1, test=1)
    return Recall(
        lambda generator, count: draw(data, generator, count),
        length=data.length,
        vocabulary=data.symbols + 1,
        answers=range(data.symbols),
        validation=data.validation,
        test=data.test,
        data_note=f"drawn: {data.symbols} symbols, the one after the special token is asked for",
    )


def draw(data: Data, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and answers (count, N + 1): the special token stands once, and again before the last token."""
    tokens = generator.integers(0, data.symbols, (count, data.length + 1))
    answers = np.zeros(tokens.shape, dtype=bool)
    row, place = np.arange(count), generator.integers(0, data.length - 2, count)
    tokens[row, place] = tokens[:, -2] = data.symbols
    tokens[:, -1] = tokens[row, place + 1]
    answers[:, -1] = True
    return tokens, answers
