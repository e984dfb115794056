"""ListOps of Long Range Arena: lists of 500 to 2,000 tokens (Tay et al., ICLR 2021, https://arxiv.org/abs/2011.04006).

With data.path, the released basic_train.tsv, basic_val.tsv and basic_test.tsv; without, lists by the published rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks import listops
from tasks.examples import Examples, Record, keep, stamp
from tasks.listops import CLASSES, TOKENS, ListOps
from tasks.released import folder, label, require, table_rows

FILES = ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv")


@dataclass
class Data(listops.Data):
    """Options of the data; those of the rules count without data.path alone."""

    path: str = ""  # the folder of the released files; "": generate
    length: int = 2048  # tokens, with pads
    minimum_length: int = 500
    maximum_length: int = 2000
    train: int = 96000
    validation: int = 2000
    test: int = 2000


def load(data: Data) -> ListOps:
    """The task.

    Raises ValueError for files that are missing or not as released, and for options out of range.
    """
    if not data.path:
        if data.length < data.maximum_length - 1:
            raise ValueError(
                f"data.length={data.length} must hold data.maximum_length={data.maximum_length} - 1 tokens"
            )
        return listops.generated(data, length=data.length)
    root = folder(data.path, "basic_train.tsv, basic_val.tsv and basic_test.tsv")
    files = [require(root / name, f"data.path= needs {', '.join(FILES)}") for name in FILES]
    tables = [keep(records, stamp=stamp([file]), file=str(file), length=data.length) for file in files]
    splits = [Examples(table, length=data.length) for table in tables]
    sizes = ", ".join(f"{len(split):,}" for split in splits)
    return ListOps(*splits, data_note=f"{root.name}: the released files, {sizes} lists")


def records(file: str, length: int) -> Iterator[Record]:
    """The examples of a released file: a header, then source and target; parentheses are left out.

    Raises ValueError.
    """
    numbers = {token: number for number, token in enumerate(TOKENS)}
    rows = table_rows(Path(file), ["Source", "Target"])
    place, header = next(rows, (file, []))
    if header != ["Source", "Target"]:
        raise ValueError(f"{place}: the header must be Source and Target, separated by a tab")
    for place, (source, target) in rows:
        words = [word for word in source.split() if word not in ("(", ")")]
        unknown = next((word for word in words if word not in numbers or word == "<pad>"), None)
        if unknown is not None or not words:
            raise ValueError(f"{place}: {unknown or 'an empty list'!r} is no list of digits, operators and ]")
        if len(words) > length:
            raise ValueError(f"{place}: {len(words)} tokens; data.length={length} must be at least that")
        yield [bytes(numbers[word] for word in words)], label(target, CLASSES, place)
