"""Labelled images from the hub, from the hub's parquet files, or from folders of image files: read in one way.

A folder is either of parquet files called as on the hub (train-00000-of-00001.parquet, …), or {train,val}/<class>/ with
image files below, or the layout of Tiny-ImageNet, whose val/val_annotations.txt names the class of each image, or
CIFAR-10's binary version.
"""

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks import cifar_binary, hub
from tasks.contract import DataError

SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".ppm", ".webp"}
HELD_OUT = ("validation", "valid", "val", "test")
"""Names of the split that is tested on, the first one that is there; ImageNet's test labels are not public."""

IMAGE, LABEL = ("image", "img"), "label"
SAMPLED = 64
"""Images of each split whose whole content enters the hash; of all others the size does."""


@dataclass(frozen=True)
class Split:
    """Encoded images, decoded one by one, and their labels (examples,)."""

    source: str  # a folder, or a data set of the hub
    name: str
    column: str
    table: Any  # a datasets.Dataset whose `column` holds {"bytes", "path"}
    labels: np.ndarray
    side: int | None = None  # height and width that each image must have

    def place(self, row: int) -> str:
        """Where an image lies, for messages."""
        path = (self.table[int(row)][self.column] or {}).get("path")
        return path if path and Path(path).is_absolute() else f"{self.source}, row {row} of the {self.name} split"

    def content(self, row: int) -> bytes:
        """The encoded image.

        Raises DataError where there is none.
        """
        entry = self.table[int(row)][self.column]
        try:
            content = entry["bytes"] if entry["bytes"] is not None else Path(entry["path"]).read_bytes()
        except (OSError, TypeError) as error:
            raise DataError(f"{self.place(row)} cannot be read ({error}); download or extract it again") from error
        if not content:
            raise DataError(f"{self.place(row)} is an empty image file; download or extract it again")
        return content

    def decode(self, row: int) -> Any:
        """The image, RGB.

        Raises DataError where it is none, or has another size than it must have.
        """
        from PIL import Image, UnidentifiedImageError

        content = self.content(row)
        try:
            with Image.open(io.BytesIO(content)) as image:
                if self.side is None or image.size == (self.side, self.side):
                    return image.convert("RGB")
                size = f"{image.width} x {image.height}"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            why = "of no known format" if isinstance(error, UnidentifiedImageError) else error
            raise DataError(f"{self.place(row)} is no image that can be read ({why}); download it again") from error
        right = f"this task is for {self.side} x {self.side}; use task=images for other images"
        raise DataError(f"{self.place(row)} has {size} pixels; {right}")


@dataclass(frozen=True)
class Images:
    """Training and test images of classes 0 .. classes - 1."""

    train: Split
    test: Split
    classes: int
    note: str  # where they come from
    hash: str


def read(path: str, repository: str | None, task: str, *, classes: int | None = None) -> Images:
    """The images of `path`, or without one those of the hub's `repository`; of `classes` classes, if that is known.

    Raises ValueError for data that are missing, half there, or not labelled images.
    """
    if path:
        root = Path(path).expanduser().resolve()
        if not root.is_dir():
            raise ValueError(f"data.path={path} is no folder")
        return assemble(_tables(root), root.name, source=str(root), classes=classes)
    if repository is None:
        raise ValueError(f"task={task} needs data.path=, a folder {{train,val}}/<class>/ of images")
    return assemble(hub.load(repository), repository, classes=classes)


def _tables(root: Path) -> dict[str, Any]:
    """The splits of a folder, whatever its layout."""
    if files := _near(root, "*.parquet"):
        return _parquet(root, files)
    if files := _near(root, "data_batch_*.bin"):
        return cifar_binary.splits(files[0].parent)
    if files := _near(root, "data_batch_1"):
        raise ValueError(f"{files[0]} is a pickle, which could run anything; use CIFAR-10's binary version (*.bin)")
    return _folders(root)


def _near(root: Path, pattern: str) -> list[Path]:
    """Files in a folder and in those right below it: further down there may be a million images."""
    return sorted([*root.glob(pattern), *root.glob(f"*/{pattern}")])


def assemble(tables: dict[str, Any], note: str, *, source: str | None = None, classes: int | None = None) -> Images:
    """Images of the tables {split: datasets.Dataset}, checked; messages name the `source`, or else the `note`.

    Raises ValueError where a split or a column is missing, and for labels that are none.
    """
    source = source or note
    held_out = next((name for name in HELD_OUT if name in tables), None)
    if "train" not in tables or held_out is None:
        raise ValueError(
            f"{source} has the splits {', '.join(tables)}; it needs train, and one of {', '.join(HELD_OUT)}"
        )
    train, test = (_split(source, name, tables[name]) for name in ("train", held_out))
    names = getattr(tables["train"].features[LABEL], "names", None)
    classes = classes or (len(names) if names else int(train.labels.max()) + 1)
    for split in (train, test):
        _check_labels(split, classes)
    return Images(train, test, classes, note, _hash(train, test))


def _split(source: str, name: str, table: Any) -> Split:
    import datasets

    place = f"{source}, the {name} split"
    column = next((column for column in IMAGE if column in table.column_names), None)
    if column is None or LABEL not in table.column_names:
        raise ValueError(
            f"{place} has the columns {', '.join(table.column_names)}; it needs {' or '.join(IMAGE)}, and {LABEL}"
        )
    if not len(table):
        raise ValueError(f"{place} is empty")
    if not str(table.features[LABEL].dtype).startswith(("int", "uint")):
        raise ValueError(f"{place}'s {LABEL} is {table.features[LABEL].dtype}; it must be a class's number")
    try:
        table = table.select_columns([column, LABEL]).cast_column(column, datasets.Image(decode=False))
    except Exception as error:  # pyarrow has many types of error
        raise ValueError(f"{place}'s {column} holds no images but {table.features[column]}") from error
    labels = table.data.column(LABEL)
    if labels.null_count:
        raise ValueError(f"{place} has {labels.null_count} images without a {LABEL}")
    return Split(source, name, column, table, labels.to_numpy().astype(np.int64))


def _check_labels(split: Split, classes: int) -> None:
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if len(wrong):
        label = split.labels[wrong[0]]
        why = "-1 says that its labels are not public" if label == -1 else f"there are {classes} classes"
        raise ValueError(f"{split.place(wrong[0])} has the label {label}, which is no class: {why}")


def _hash(*splits: Split) -> str:
    """Of all labels, the sizes of all encoded images, and the content of some.

    Raises DataError for an empty image file.
    """
    digest = hashlib.sha256()
    for split in splits:
        sizes = _sizes(split)
        if not sizes.all():
            row = int(np.flatnonzero(sizes == 0)[0])
            raise DataError(f"{split.place(row)} is an empty image file; download or extract it again")
        digest.update(split.labels.tobytes() + sizes.tobytes())
        for row in np.unique(np.linspace(0, len(sizes) - 1, SAMPLED).astype(int)):
            digest.update(split.content(row))
    return digest.hexdigest()[:16]


def _sizes(split: Split) -> np.ndarray:
    """Bytes of each encoded image, without reading them."""
    from pyarrow.compute import call_function

    encoded = split.table.data.table.select([split.column]).flatten()  # its parts, bytes and path, as columns
    sizes = call_function("binary_length", [encoded.column(f"{split.column}.bytes")])
    if not sizes.null_count:
        return sizes.to_numpy().astype(np.int64)
    paths = encoded.column(f"{split.column}.path")
    pairs = zip(sizes.to_pylist(), paths.to_pylist(), strict=True)
    return np.array([_file_size(path) if size is None else size for size, path in pairs], dtype=np.int64)


def _file_size(path: str | None) -> int:
    return Path(path).stat().st_size if path and Path(path).exists() else 0


def _parquet(root: Path, files: list[Path]) -> dict[str, Any]:
    """The splits of parquet files called as on the hub."""
    import datasets
    import pyarrow.parquet

    splits: dict[str, list[str]] = {}
    counts: dict[str, int] = {}  # how many files each split consists of, as their names say
    for file in files:
        found = re.match(rf"(train|{'|'.join(HELD_OUT)})(-\d+-of-(?P<count>\d+))?(-[0-9a-f]+)?\.parquet", file.name)
        if found:
            try:
                rows = pyarrow.parquet.read_metadata(file).num_rows
            except Exception as error:  # pyarrow has many types of error
                raise ValueError(f"{file} is damaged or half downloaded ({error}); download it again") from error
            if not rows:
                raise ValueError(f"{file} holds no rows; download it again")
            splits.setdefault(found[1], []).append(str(file))
            counts[found[1]] = int(found["count"] or 1)
    for name, count in counts.items():
        if len(splits[name]) != count:
            raise ValueError(
                f"{root} holds {len(splits[name])} of the {count} parquet files of the {name} split; download the rest"
            )
    if not splits:
        raise ValueError(f"{root} holds no parquet file called as on the hub, such as train-00000-of-00001.parquet")
    try:
        return {
            name: datasets.load_dataset("parquet", data_files={name: part}, split=name) for name, part in splits.items()
        }
    except Exception as error:  # pyarrow's and the builder's
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"the parquet files of {root} cannot be read: {reason}") from error


def _folders(root: Path) -> dict[str, Any]:
    """The splits of {train,val}/<class>/ with image files below, or of Tiny-ImageNet."""
    held_out = next((name for name in HELD_OUT if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        raise ValueError(
            f"{root} holds neither parquet files nor the folders train and val; "
            "images lie in {train,val}/<class>/, in the parquet files of the hub, or in CIFAR-10's data_batch_*.bin"
        )
    classes = [folder.name for folder in _subfolders(root / "train")]
    if not classes:
        raise ValueError(f"{root / 'train'} holds no folder of a class; images lie in train/<class>/")
    annotations = root / held_out / "val_annotations.txt"
    annotated = annotations.exists() and (root / held_out / "images").is_dir()
    labelled = _annotated(annotations, classes) if annotated else _by_class(root / held_out, classes)
    return {"train": _table(_by_class(root / "train", classes), classes), held_out: _table(labelled, classes)}


def _by_class(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """(file, label) of <class>/ folders, images anywhere below."""
    found, labels = [], {name: label for label, name in enumerate(classes)}
    for inner in _subfolders(folder):
        if inner.name not in labels:
            raise ValueError(
                f"{inner} is no class of the training images; they know {_some(classes)}; images lie in "
                f"{folder.name}/<class>/, or in val/images/ beside val_annotations.txt"
            )
        files = sorted(file for file in inner.rglob("*") if _is_image(file))
        if not files:
            raise ValueError(f"{inner} holds no image ({', '.join(sorted(SUFFIXES))}); extract the data again")
        found += [(str(file), labels[inner.name]) for file in files]
    if not found:
        raise ValueError(f"{folder} holds no folder of a class; images lie in {folder.name}/<class>/")
    return found


def _annotated(annotations: Path, classes: list[str]) -> list[tuple[str, int]]:
    """(file, label) of Tiny-ImageNet's validation images: a line each of file, class and four numbers, tabs between."""
    images = annotations.parent / "images"
    files = {file.name for file in images.glob("*") if _is_image(file)}
    labels = {name: label for label, name in enumerate(classes)}
    try:
        lines = annotations.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{annotations} is no UTF-8 text ({error.reason}); extract the data again") from error
    found = []
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        label = labels.get(rest.partition("\t")[0])
        if label is None or name not in files:
            wrong = "names no class of train" if label is None else "names no file of images, or one named before"
            raise ValueError(f"{annotations}, line {number} ({line!r}) {wrong}; extract the data again")
        found.append((str(images / name), label))
        files.remove(name)
    if files:
        raise ValueError(f"{annotations} names no class of {sorted(files)[0]}, which lies in {images}")
    return found


def _table(labelled: list[tuple[str, int]], classes: list[str]) -> Any:
    import datasets

    files, labels = zip(*labelled, strict=True)
    features = datasets.Features({"image": datasets.Image(decode=False), LABEL: datasets.ClassLabel(names=classes)})
    return datasets.Dataset.from_dict({"image": list(files), LABEL: list(labels)}, features=features)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _subfolders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
