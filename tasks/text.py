"""Byte-level language modelling of a user's own file or folder."""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.byte_model import ByteModel

SPLIT_BY_DOCUMENT = 20
"""From this many documents on, whole documents are held out; below, the end of the text is."""


@dataclass
class Data:
    """Options of the data."""

    path: str = ""  # a text file, or a folder of them
    length: int = 256  # bytes a training sequence
    validation_bytes: int = 16384
    test_bytes: int = 65536


def load(data: Data) -> "ByteModel":
    """The task.

    Raises ValueError where the path is missing, empty or no text, and OSError where it cannot be read.
    """
    from tasks.byte_model import ByteModel

    if not data.path:
        raise ValueError("task=text needs data.path=, a text file or a folder of them")
    splits, note = _splits(data.path)
    return ByteModel(
        splits,
        length=data.length,
        validation_bytes=data.validation_bytes,
        test_bytes=data.test_bytes,
        data_note=note,
    )


@cache
def _splits(path: str) -> tuple[dict[str, list[bytes]], str]:
    root = Path(path).expanduser()
    if not root.exists():
        raise ValueError(f"data.path={path} does not exist")
    documents, skipped = _documents(root)
    note = f"{root.name}: {len(documents)} document{'s' * (len(documents) != 1)}, {sum(map(len, documents)):,} bytes"
    if skipped:
        note += f" ({skipped} empty or binary file{'s' * (skipped != 1)} left aside)"
    if len(documents) >= SPLIT_BY_DOCUMENT:
        tenth = len(documents) // 10
        parts = documents[2 * tenth :], documents[tenth : 2 * tenth], documents[:tenth]
        note += ", split by document"
    else:
        text = b"\n".join(documents)
        parts = (
            [text[: len(text) * 8 // 10]],
            [text[len(text) * 8 // 10 : len(text) * 9 // 10]],
            [text[len(text) * 9 // 10 :]],
        )
        note += ", the last fifth held out"
    return dict(zip(("train", "validation", "test"), parts, strict=True)), note


def _documents(root: Path) -> tuple[list[bytes], int]:
    """The text files in an order that depends on their names alone, and how many files were no text."""
    if root.is_file():
        text = root.read_bytes()
        if problem := _not_text(text):
            raise ValueError(f"data.path={root} is {problem}; give a text file")
        return [text], 0
    texts = [path.read_bytes() for path in _files(root)]
    documents = [text for text in texts if not _not_text(text)]
    if not documents:
        raise ValueError(f"data.path={root} holds no text file")
    return documents, len(texts) - len(documents)


def _files(root: Path) -> list[Path]:
    """All files below the folder, hidden ones left aside."""
    found = []
    for folder, folders, files in os.walk(root):
        if {".lock", "config.yaml"} <= set(files):  # what mixerzoo itself wrote is no data
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder) / name for name in files if not name.startswith(".")]
    names = {path: path.relative_to(root).as_posix() for path in found if path.is_file()}
    return sorted(names, key=lambda path: hashlib.blake2b(names[path].encode(errors="surrogateescape")).digest())


def _not_text(text: bytes) -> str:
    """What is wrong with a file as text; "" if nothing."""
    if not text.strip():
        return "empty"
    return "binary (it holds NUL bytes)" if b"\0" in text else ""
