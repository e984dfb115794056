"""Long Range Arena's retrieval: whether two papers of the ACL Anthology Network cite each other, read byte by byte
(Radev et al., 2013; Tay et al., ICLR 2021). Both papers go through one encoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from backbones.encoder import DualEncoder
from backbones.stack import Stack
from tasks.classification import Classification
from tasks.contract import Build
from tasks.examples import Examples, Record, keep, stamp
from tasks.hub import hub_file
from tasks.released import folder, label, require, table_rows

HUB = "OpenNLPLab/lra"
FILES = ("new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv")
COLUMNS = ["label", "first id", "second id", "first text", "second text"]


@dataclass
class Data:
    """Options of the data."""

    path: str = ""  # the folder of the released files; "": the hub, 11 GB
    bytes: int = 4000  # kept of a paper
    length: int = 4096  # with pads
    validated: int | None = None  # examples that validations in training score; null: all


class Retrieval(Classification):
    """Classify pairs, 1 where one paper cites the other. Budgets count one paper of a pair."""

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return DualEncoder(build(Stack), vocabulary=self.vocabulary, classes=self.classes, seed=seed)


def load(data: Data) -> Retrieval:
    """The task.

    Raises ValueError for files that are missing or not as released, and for options out of range.
    """
    if not 1 <= data.bytes <= data.length:
        raise ValueError(f"data.bytes={data.bytes} must lie between 1 and data.length={data.length}")
    if data.path:
        root = folder(data.path, ", ".join(FILES))
        files = [require(root / name, f"data.path= needs {', '.join(FILES)}") for name in FILES]
    else:
        files = [hub_file(HUB, f"data/aan/{name}") for name in FILES]
    tables = [keep(records, sequences=2, stamp=stamp([file]), file=str(file), size=data.bytes) for file in files]
    splits = [Examples(table, length=data.length) for table in tables]
    sizes = ", ".join(f"{len(split):,}" for split in splits)
    return Retrieval(
        *splits,
        vocabulary=256,
        classes=2,
        data_note=f"ACL Anthology Network, {sizes} pairs, the first {data.bytes:,} bytes of each paper",
        validated=data.validated,
    )


def records(file: str, size: int) -> Iterator[Record]:
    """The first `size` bytes of both papers of each row.

    Raises ValueError.
    """
    for place, (target, _, _, first, second) in table_rows(Path(file), COLUMNS):
        if not first or not second:
            raise ValueError(f"{place}: a text is empty; download the file anew")
        yield [first.encode()[:size], second.encode()[:size]], label(target, 2, place)
