"""Long Range Arena's pathfinder: whether two discs lie on one dashed contour, in images of 32 x 32 pixels (Linsley et
al., NeurIPS 2018, https://arxiv.org/abs/1805.08315; Tay et al., ICLR 2021).

With data.path, the released PNGs and their metadata; without, images drawn by the published rules.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.examples import Examples, Record, keep, stamp
from tasks.lra import contours
from tasks.lra.pixels import Pixels, grey
from tasks.released import decode, folder, label

LEVEL = "curv_contour_length_14"


@dataclass
class Data:
    """Options of the data; the sizes and the seed count without data.path alone."""

    path: str = ""  # the folder of curv_contour_length_14, or of its imgs and metadata; "": draw
    numbers: bool = False  # pixels enter as numbers; false: as 256 tokens
    train: int = 160000  # images
    validation: int = 20000
    test: int = 20000
    seed: int = 0


def load(data: Data) -> Pixels:
    """The task.

    Raises ValueError for files that are missing or not as released, and for options out of range.
    """
    return load_size(data, 32)


def load_size(data: Data, size: int) -> Pixels:
    """The task with images of size x size pixels."""
    if data.path:
        root = _level(data.path)
        listed = list(_listed(root))
        empty = [file for file, _, _ in listed if file.stat().st_size == 0]
        if len(empty) > 1:
            raise ValueError(f"{len(empty)} images are empty, {empty[0]} first; the release has one: download it anew")
        files = [*_tables(root), *(file for file, _, _ in listed)]
        examples = Examples(keep(records, stamp=stamp(files), root=str(root), size=size), length=size * size)
        _require_all(root, {file for file, _, _ in listed})
        order = np.random.default_rng(0).permutation(len(examples))
        ends = [0, len(order) * 8 // 10, len(order) * 9 // 10, len(order)]
        splits = [examples.chosen(order[start:end]) for start, end in itertools.pairwise(ends)]
        note = f"{root.parent.name}/{root.name}: {len(examples):,} released images, split 8 : 1 : 1"
        note += "".join(f"; {file.relative_to(root)} is empty and left aside" for file in empty)
    else:
        sizes = {"train": data.train, "validation": data.validation, "test": data.test}
        for key, count in sizes.items():
            if count < 1:
                raise ValueError(f"data.{key}={count} must be at least 1")
        count = sum(sizes.values())
        examples = Examples(keep(contours.records, size=size, count=count, seed=data.seed), length=size * size)
        splits = [examples.part(*ends) for ends in itertools.pairwise([0, *itertools.accumulate(sizes.values())])]
        note = f"{count:,} images of {size} x {size} pixels drawn by the published rules, seed {data.seed}"
    return Pixels(*splits, classes=2, numbers=data.numbers, data_note=note)


def records(root: str, size: int) -> Iterator[Record]:
    """The released images and their labels; an empty file is left out.

    Raises ValueError.
    """
    for file, target, place in _listed(Path(root)):
        content = file.read_bytes()
        if content:
            yield [grey(content, size, str(file))], label(target, 2, place)


def _level(path: str) -> Path:
    """The folder that holds imgs and metadata."""
    root = folder(path, LEVEL)
    for found in (root, root / LEVEL):
        if (found / "metadata").is_dir():
            return found
    raise ValueError(f"data.path={path} holds neither {LEVEL}/metadata nor metadata; give the folder of one size")


def _tables(root: Path) -> list[Path]:
    """The files of metadata."""
    return sorted((root / "metadata").glob("*.npy"), key=lambda table: (len(table.stem), table.stem))


def _require_all(root: Path, listed: set[Path]) -> None:
    """Raise ValueError for an image that the metadata, maybe cut off, do not name."""
    unnamed = sorted(set((root / "imgs").glob("*/*.png")) - listed)
    if unnamed:
        raise ValueError(
            f"{root / 'metadata'} has no row for {unnamed[0]} and {len(unnamed) - 1} others; download the data anew"
        )


def _listed(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each image's file and label, and where its line of metadata stands: folder, file, number, label, …

    Raises ValueError.
    """
    tables = _tables(root)
    if not tables:
        raise ValueError(f"{root / 'metadata'} holds no .npy files; download the data anew")
    for table in tables:
        content = table.read_bytes()
        if content.startswith(b"\x93NUMPY"):
            raise ValueError(f"{table} is an array of numpy; the released files are lines of text of that name")
        for number, line in enumerate(decode(content, str(table)).splitlines(), 1):
            place, fields = f"{table}, row {number}", line.split()
            if len(fields) < 4:
                raise ValueError(f"{place}: {len(fields)} fields, not folder, file, number, label and more")
            file = root / fields[0] / fields[1]
            if not file.is_file():
                raise ValueError(f"{place}: {file} does not exist; download the data anew")
            yield file, fields[3], place
