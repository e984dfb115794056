"""Long Range Arena's text: the sentiment of IMDB reviews, byte by byte (Maas et al., ACL 2011; Tay et al., ICLR 2021).

As published, the test split serves for validation too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import hub
from tasks.classification import Classification
from tasks.examples import Examples, Record, keep, stamp
from tasks.released import decode, label, require

HUB = "stanfordnlp/imdb"
LABELS = ("neg", "pos")


@dataclass
class Data:
    """Options of the data."""

    path: str = ""  # aclImdb, or a folder of the hub's parquet files; "": the hub
    bytes: int = 4000  # kept of a review
    length: int = 4096  # with pads
    validated: int | None = None  # examples that validations in training score; null: all


def load(data: Data) -> Classification:
    """The task.

    Raises ValueError for files that are missing or not as released, and for options out of range.
    """
    if not 1 <= data.bytes <= data.length:
        raise ValueError(f"data.bytes={data.bytes} must lie between 1 and data.length={data.length}")
    root = Path(data.path or HUB).expanduser()
    if data.path and not root.is_dir():
        raise ValueError(
            f"data.path={data.path} is no folder; give aclImdb, which holds train/pos, train/neg and test/…"
        )
    mark = stamp(sorted(file for file in root.rglob("*") if file.is_file())) if data.path else ""
    train, test = (
        Examples(keep(records, stamp=mark, path=data.path, split=split, size=data.bytes), length=data.length)
        for split in ("train", "test")
    )
    return Classification(
        train,
        test,
        test,
        vocabulary=256,
        classes=2,
        data_note=f"IMDB from {root.name if data.path else HUB}, {len(train):,} and {len(test):,} reviews, "
        f"the first {data.bytes:,} bytes; validation scores the test split, as published",
        validated=data.validated,
    )


def records(path: str, split: str, size: int) -> Iterator[Record]:
    """The first `size` bytes of the reviews of a split.

    Raises ValueError.
    """
    for place, text, target in _reviews(path, split):
        if not text:
            raise ValueError(f"{place}: the review is empty; download the data anew")
        yield [text.encode()[:size]], label(target, 2, place)


def _reviews(path: str, split: str) -> Iterator[tuple[str, str, Any]]:
    """Place, text and label of the reviews of a split: of the hub, of its files, or of the original's folders."""
    if not path:
        return _from_table(hub.load(HUB)[split], f"{HUB}, {split}")
    root = Path(path).expanduser()
    if files := sorted([*root.glob(f"{split}-*.parquet"), *root.glob(f"*/{split}-*.parquet")]):
        return _from_table(hub.from_parquet(files), str(files[0]))
    return _from_folders(root / split)


def _from_table(table: Any, where: str) -> Iterator[tuple[str, str, Any]]:
    rows = hub.records(table, ["text"], where, label="label")
    return ((f"{where}, row {number}", text, target) for number, (text, target) in enumerate(rows, 1))


def _from_folders(split: Path) -> Iterator[tuple[str, str, Any]]:
    for target, name in enumerate(LABELS):
        what = f"aclImdb holds {{train,test}}/{{pos,neg}}, the hub's folder {split.name}-00000-of-00001.parquet"
        files = sorted(require(split / name, what).glob("*.txt"))
        if not files:
            raise ValueError(f"{split / name} holds no .txt files; download aclImdb anew")
        for file in files:
            yield str(file), decode(file.read_bytes(), str(file)), target
