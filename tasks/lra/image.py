"""Long Range Arena's image task: CIFAR-10 in grey, read pixel by pixel (Krizhevsky, 2009; Tay et al., ICLR 2021).

The last tenth of the training split is the validation split.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.examples import Examples, Record, keep, stamp
from tasks.lra.pixels import Pixels, grey
from tasks.released import folder, hub_rows, label

HUB = "uoft-cs/cifar10"
SIZE = 32
CLASSES = 10


@dataclass
class Data:
    """Options of the data."""

    path: str = ""  # a folder of the hub's parquet files; "": the hub
    numbers: bool = False  # pixels enter as numbers; false: as 256 tokens


def load(data: Data) -> Pixels:
    """The task.

    Raises ValueError for files that are missing or not as released.
    """
    source, mark, name = data.path or HUB, "", HUB
    if data.path:
        root = folder(data.path, "the parquet files of CIFAR-10")
        mark, name = stamp(sorted(file for file in root.rglob("*") if file.is_file())), root.name
    train, test = (
        Examples(keep(records, stamp=mark, source=source, split=split), length=SIZE * SIZE)
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


def records(source: str, split: str) -> Iterator[Record]:
    """The grey images of a split and their classes.

    Raises ValueError.
    """
    for place, (image, target) in hub_rows(source, split, ("img", "label")):
        yield [grey(image["bytes"] or b"", SIZE, f"{place}: the image")], label(target, CLASSES, place)
