"""Labelled sequences of bytes, kept on disk by `datasets`: whole or absent, shared by runs, read as they are needed.

Shapes: B batch, S sequences an example (1, or 2 of pairs), N length.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

Record = tuple[list[bytes], int]
"""The sequences of an example, and its label."""


def keep(records: Callable[..., Iterator[Record]], *, sequences: int = 1, stamp: str = "", **options: Any) -> Dataset:
    """All that records(**options) yields, in the cache of `datasets` under the hash of its module, options and `stamp`.

    Raises ValueError with the message of a ValueError or OSError of `records`.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    columns = [f"sequence_{index}" for index in range(sequences)]
    features = datasets.Features(
        {**{name: datasets.Value("binary") for name in columns}, "label": datasets.Value("int64")}
    )
    source = inspect.getsource(inspect.getmodule(records) or records)
    key = repr((source, records.__qualname__, sequences, stamp, sorted(options.items())))
    try:
        return datasets.Dataset.from_generator(
            _rows,
            features=features,
            gen_kwargs={"records": records, "options": options},
            fingerprint=hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32],
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise ValueError(str(error.__cause__)) from error
        raise


def _rows(records: Callable[..., Iterator[Record]], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    log.warning("reading or drawing examples, once for all runs; kept in the cache of datasets")
    label = None
    for sequences, label in records(**options):
        yield {**{f"sequence_{index}": sequence for index, sequence in enumerate(sequences)}, "label": label}
    if label is None:
        raise ValueError(f"{next(iter(options.values()))} holds no examples")  # the first option names the source


def stamp(files: Iterable[Path]) -> str:
    """A hash of the files' names, sizes and times, which changes when they do."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(repr((str(file.absolute()), status.st_size, status.st_mtime_ns)).encode(errors="surrogateescape"))
    return digest.hexdigest()


class Examples:
    """Some rows of a kept table, padded with zeros to `length` when they are read."""

    def __init__(self, table: Dataset, *, length: int):
        self._table = table.with_format("arrow")
        self._names = [name for name in table.column_names if name != "label"]
        self.length = length

    def __len__(self) -> int:
        return len(self._table)

    def part(self, start: int, stop: int) -> Examples:
        """Rows start to stop - 1."""
        return Examples(self._table.select(range(start, stop)), length=self.length)

    def chosen(self, rows: np.ndarray) -> Examples:
        """Those rows, in that order."""
        return Examples(self._table.select(rows.tolist()), length=self.length)

    def take(self, rows: np.ndarray | range) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N) and lengths (B,), of pairs (B, 2, N) and (B, 2), and labels (B,)."""
        table = self._rows(list(rows))
        sequences = [table.column(name).to_pylist() for name in self._names]
        tokens = np.zeros((len(rows), len(sequences), self.length), dtype=np.uint8)
        lengths = np.zeros(tokens.shape[:2], dtype=np.int64)
        for side, column in enumerate(sequences):
            for row, sequence in enumerate(column):
                tokens[row, side, : len(sequence)] = np.frombuffer(sequence, np.uint8)
                lengths[row, side] = len(sequence)
        if len(sequences) == 1:
            tokens, lengths = tokens[:, 0], lengths[:, 0]
        labels = torch.from_numpy(table.column("label").to_numpy().astype(np.int64))
        return torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(lengths), labels

    def parts(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All rows, up to `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(range(start, min(start + size, len(self))))

    def labels(self) -> np.ndarray:
        """All labels (rows,)."""
        return np.concatenate([chunk.to_numpy() for chunk in self._chunks("label")])

    def first_tokens(self) -> np.ndarray:
        """The first token of every row (rows,)."""
        return np.concatenate([tokens[..., 0].numpy() for tokens, _, _ in self.parts(1024)])

    def longest_first(self) -> np.ndarray:
        """The rows by falling length of their first sequence."""
        lengths = [len(value.as_buffer()) for chunk in self._chunks(self._names[0]) for value in chunk]
        return np.argsort(-np.array(lengths), kind="stable")

    def update(self, digest: Any) -> None:
        """Add all rows to a hash."""
        for name in self._names:
            for chunk in self._chunks(name):
                for value in chunk:
                    content = value.as_buffer()
                    digest.update(len(content).to_bytes(8, "big"))
                    digest.update(content)
        digest.update(np.ascontiguousarray(self.labels()).tobytes())

    def _chunks(self, name: str) -> Iterator[Any]:
        for start in range(0, len(self), 1024):
            yield from self._rows(slice(start, start + 1024)).column(name).chunks

    def _rows(self, rows: list[int] | slice) -> Any:
        """Those rows as a table of Arrow."""
        return self._table[rows]
