"""Copying: repeat symbols after a delay (Hochreiter and Schmidhuber, 1997; Arjovsky et al., ICML 2016,
https://arxiv.org/abs/1511.06464).
"""

from dataclasses import dataclass

import numpy as np

from tasks.recall.questions import Recall, require_at_least, shuffled

BLANK, MARK = 0, 1  # then come the symbols


@dataclass
class Data:
    """Options of the data."""

    length: int = 64
    items: int = 16  # symbols to repeat
    symbols: int = 8  # different ones
    validation: int = 500  # sequences
    test: int = 1000


def load(data: Data) -> Recall:
    """The task.

    Raises ValueError for options that do not go together.
    """
    return repeating(data, scattered=False)


def repeating(data: Data, *, scattered: bool) -> Recall:
    """The task, its symbols at the beginning or scattered among blanks.

    Raises ValueError for options that do not go together.
    """
    require_at_least(data, items=1, symbols=2, validation=1, test=1)
    if data.length < 2 * data.items:
        raise ValueError(f"data.length={data.length} must be at least 2 * items = {2 * data.items}")
    return Recall(
        lambda generator, count: draw(data, generator, count, scattered=scattered),
        length=data.length,
        vocabulary=2 + data.symbols,
        answers=range(2, 2 + data.symbols),
        validation=data.validation,
        test=data.test,
        data_note=f"drawn: {data.items} of {data.symbols} symbols{' among blanks' * scattered}, to be repeated",
    )


def draw(data: Data, generator: np.random.Generator, count: int, *, scattered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and answers (count, N + 1): symbols and blanks, a mark, and the symbols again in their order."""
    tokens = np.full((count, data.length + 1), BLANK, dtype=np.int64)
    answers = np.zeros(tokens.shape, dtype=bool)
    items = 2 + generator.integers(0, data.symbols, (count, data.items))
    start = data.length + 1 - data.items
    place = np.broadcast_to(np.arange(data.items), items.shape)
    if scattered:
        place = np.sort(shuffled(generator, count, start - 1, data.items), axis=1)
    np.put_along_axis(tokens, place, items, axis=1)
    tokens[:, start - 1] = MARK
    tokens[:, start:], answers[:, start:] = items, True
    return tokens, answers
