"""Text as one stream of token ids on disk, memory-mapped, made once for all runs."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tasks.cache import cached
from tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)


def token_stream(rows: Iterable[str], source: str, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of all rows, each row stripped of blanks around it and followed by the end token; an empty row is an
    end token alone (fairseq's --keep-empty). `source` is the hash of the rows.

    Raises ValueError for no rows, and what reading the rows raises.
    """
    dtype = np.dtype("<u2" if tokenizer.size <= 2**16 else "<u4")

    def write(part: Path) -> None:
        log.warning("turning text into tokens, once for all runs; kept in %s", part.parent)
        with open(part, "wb") as file:
            for tokens in tokenizer.encode(_stripped(rows)):
                np.array([*tokens, tokenizer.end], dtype).tofile(file)
            if not file.tell():
                raise ValueError("the text has no rows")

    return np.memmap(cached("tokens.bin", (source, tokenizer.identity, dtype.str), write), dtype, mode="r")


def ends_of_rows(stream: np.ndarray, end: int) -> np.ndarray:
    """Where each row of a stream ends, its end token included."""
    return np.flatnonzero(stream == end) + 1


def blocks(stream: np.ndarray, end: int, size: int) -> np.ndarray:
    """(blocks, 2), starts and stops: as many whole rows as fit into `size` tokens, across documents (fairseq's break
    mode `complete`). A longer row is cut.
    """
    ends = ends_of_rows(stream, end)
    found, start = [], 0
    while start < len(stream):
        row = ends.searchsorted(start + size, side="right") - 1
        stop = int(ends[row]) if row >= 0 and ends[row] > start else start + size
        found.append((start, stop))
        start = stop
    return np.array(found)


def _stripped(rows: Iterable[str]) -> Iterator[str]:
    return (row.strip() for row in rows)
