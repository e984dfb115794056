"""Long Range Arena's image task: CIFAR-10 in grey, read pixel by pixel (Krizhevsky, 2009; Tay et al., ICLR 2021).

The last tenth of the training split is the validation split.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.examples import Examples, Record, keep, stamp
from tasks.image_source import read
from tasks.lra.pixels import Pixels, grey
from tasks.released import folder

HUB = "uoft-cs/cifar10"
SIZE = 32
CLASSES = 10


@dataclass
class Data:
    """Options of the data."""

    path: str = ""  # a folder of the hub's parquet files, or of the binary version; "": the hub
    numbers: bool = False  # pixels enter as numbers; false: as 256 tokens


def load(data: Data) -> Pixels:
    """The task.

    Raises ValueError for files that are missing or not as released.
    """
    mark, name = "", HUB
    if data.path:
        root = folder(data.path, "CIFAR-10, as parquet files or in its binary version")
        mark, name = stamp(sorted(file for file in root.rglob("*") if file.is_file())), root.name
    train, test = (
        Examples(keep(records, stamp=mark, path=data.path, split=split), length=SIZE * SIZE)
        for split in ("train", "test")
    )
    border = len(train) * 9 // 10
    return Pixels(
        train.part(0, border),
        train.part(border, len(train)),
        test,
        classes=CLASSES,
        numbers=data.numbers,
        data_note=f"CIFAR-10 in grey from {name}, {border:,}, {len(train) - border:,} and {len(test):,} images",
    )


def records(path: str, split: str) -> Iterator[Record]:
    """The grey images of a split and their classes.

    Raises ValueError.
    """
    images = read(path, HUB, "lra/image", classes=CLASSES)
    part = images.train if split == "train" else images.test
    for row, target in enumerate(part.labels.tolist()):
        yield [grey(part.content(row), SIZE, part.place(row))], target
