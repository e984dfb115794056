"""CIFAR-10 as its authors release it in binary: data_batch_1.bin .. data_batch_5.bin and test_batch.bin.

An image is a byte of its class and 3,072 of its pixels, all of red, then of green, then of blue
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
SIDE = 32  # pixels


def splits(root: Path) -> dict[str, Any]:
    """The splits as tables of images and labels.

    Raises ValueError for files that are missing or cut off, and for classes that do not exist.
    """
    return {name: _table(_equally_long(root, files)) for name, files in FILES.items()}


def _equally_long(root: Path, files: list[str]) -> list[np.ndarray]:
    """The records of each file of a split; a file may be cut off between two of them."""
    parts = [_records(root / file) for file in files]
    most = max(map(len, parts))
    for file, part in zip(files, parts, strict=True):
        if len(part) < most:
            raise ValueError(f"{root / file} holds {len(part):,} images, and another one {most:,}; download it again")
    return parts


def _records(file: Path) -> np.ndarray:
    """(images, 1 + 3 * 32 * 32) bytes."""
    size = 1 + 3 * SIDE * SIDE
    if not file.exists():
        raise ValueError(f"{file} is missing; extract CIFAR-10's binary version again")
    content = np.fromfile(file, dtype=np.uint8)
    if not len(content) or len(content) % size:
        raise ValueError(f"{file} has {len(content):,} bytes, which is no multiple of {size:,}; download it again")
    records = content.reshape(-1, size)
    wrong = np.flatnonzero(records[:, 0] >= len(CLASSES))
    if len(wrong):
        raise ValueError(f"image {wrong[0]} of {file} is of class {records[wrong[0], 0]}; there are {len(CLASSES)}")
    return records


def _table(parts: list[np.ndarray]) -> Any:
    import datasets

    records = np.concatenate(parts)
    pixels = records[:, 1:].reshape(-1, 3, SIDE * SIDE).transpose(0, 2, 1)  # (images, pixels, colours)
    header = f"P6 {SIDE} {SIDE} 255\n".encode()  # an image file of the simplest format, without loss
    images = [{"bytes": header + image.tobytes(), "path": None} for image in pixels]
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=CLASSES)})
    return datasets.Dataset.from_dict({"image": images, "label": records[:, 0].tolist()}, features=features)
