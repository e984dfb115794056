"""Long Range Arena's text: the sentiment of IMDB reviews, byte by byte (Maas et al., ACL 2011; Tay et al., ICLR 2021).

As published, the test split serves for validation too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.classification import Classification
from tasks.examples import Examples, Record, keep, stamp
from tasks.released import decode, hub_rows, label, require

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
    source = data.path or HUB
    root = Path(source).expanduser()
    if data.path and not root.is_dir():
        raise ValueError(
            f"data.path={data.path} is no folder; give aclImdb, which holds train/pos, train/neg and test/…"
        )
    mark = stamp(sorted(file for file in root.rglob("*") if file.is_file())) if data.path else ""
    train, test = (
        Examples(keep(records, stamp=mark, source=source, split=split, size=data.bytes), length=data.length)
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


def records(source: str, split: str, size: int) -> Iterator[Record]:
    """The first `size` bytes of the reviews of a split.

    Raises ValueError.
    """
    for place, text, target in _reviews(source, split):
        if not text:
            raise ValueError(f"{place}: the review is empty; download the data anew")
        yield [text.encode()[:size]], label(target, 2, place)


def _reviews(source: str, split: str) -> Iterator[tuple[str, str, int]]:
    """Place, text and label of the reviews of a split, of the original's folders or of a table of the hub."""
    root = Path(source).expanduser()
    if not any((root / part / name).exists() for part in ("train", "test") for name in LABELS):
        for place, (text, target) in hub_rows(source, split, ("text", "label")):
            yield place, text, target
        return
    for target, name in enumerate(LABELS):
        files = sorted(require(root / split / name, "aclImdb holds {train,test}/{pos,neg}").glob("*.txt"))
        if not files:
            raise ValueError(f"{root / split / name} holds no .txt files; download aclImdb anew")
        for file in files:
            yield str(file), decode(file.read_bytes(), str(file)), target
