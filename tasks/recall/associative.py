"""Multi-query associative recall: pairs of a key and a value, then keys whose values are asked for (Arora et al., 2023,
https://arxiv.org/abs/2312.04927).
"""

from dataclasses import dataclass

import numpy as np

from tasks.recall.questions import Recall, require_at_least, shuffled


@dataclass
class Data:
    """Options of the data."""

    length: int = 32
    pairs: int = 4
    queries: int = 4  # different keys that are asked for
    keys: int = 16  # different keys that there are
    values: int = 16
    validation: int = 500  # sequences
    test: int = 1000


def load(data: Data) -> Recall:
    """The task.

    Raises ValueError for options that do not go together.
    """
    require_at_least(data, pairs=1, queries=1, values=2, validation=1, test=1)
    if not data.queries <= data.pairs <= data.keys:
        sizes = f"data.queries={data.queries}, data.pairs={data.pairs} and data.keys={data.keys}"
        raise ValueError(f"{sizes} must not fall in this order")
    needed = 2 * (data.pairs + data.queries) - 1
    if data.length < needed:
        raise ValueError(f"data.length={data.length} must be at least 2 * (pairs + queries) - 1 = {needed}")
    return Recall(
        lambda generator, count: draw(data, generator, count),
        length=data.length,
        vocabulary=1 + data.keys + data.values,
        answers=range(1 + data.keys, 1 + data.keys + data.values),
        validation=data.validation,
        test=data.test,
        data_note=f"drawn: {data.pairs} pairs of {data.keys} keys and {data.values} values, {data.queries} asked for",
    )


def draw(data: Data, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and answers (count, N + 1): 0 is a blank, then come the keys, then the values."""
    tokens = np.zeros((count, data.length + 1), dtype=np.int64)
    answers = np.zeros(tokens.shape, dtype=bool)
    keys = 1 + shuffled(generator, count, data.keys, data.pairs)
    values = 1 + data.keys + generator.integers(0, data.values, (count, data.pairs))
    start = 2 * data.pairs
    tokens[:, 0:start:2], tokens[:, 1:start:2] = keys, values
    asked = shuffled(generator, count, data.pairs, data.queries)
    place = start + 2 * shuffled(generator, count, (data.length + 1 - start) // 2, data.queries)
    row = np.arange(count)[:, None]
    tokens[row, place], tokens[row, place + 1] = keys[row, asked], values[row, asked]
    answers[row, place + 1] = True
    return tokens, answers
