"""Byte-level language modelling of the Python standard library, which every interpreter carries."""

import hashlib
import platform
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.byte_model import ByteModel

LEFT_OUT = {"test", "tests", "idle_test", "encodings", "lib2to3", "idlelib", "site-packages", "__pycache__"}


@dataclass
class Data:
    """Options of the data."""

    length: int = 256  # bytes a training sequence
    validation_bytes: int = 16384
    test_bytes: int = 65536


@cache
def _splits() -> dict[str, list[bytes]]:
    """The sources, split by top-level module: 10% test, 5% validation."""
    home = Path(sysconfig.get_paths()["stdlib"])
    splits: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
    for path in sorted(home.rglob("*.py"), key=lambda path: _number(path.relative_to(home).as_posix())):
        parts = path.relative_to(home).with_suffix("").parts
        if parts[0] in sys.stdlib_module_names and not LEFT_OUT.intersection(parts):
            share = _number(parts[0]) % 100
            splits["test" if share < 10 else "validation" if share < 15 else "train"].append(path.read_bytes())
    return splits


def _number(name: str) -> int:
    """A number that depends on the name alone, for orders and splits that look random."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def load(data: Data) -> "ByteModel":
    """The task.

    Raises ValueError where this interpreter carries no sources.
    """
    from tasks.byte_model import ByteModel

    splits = _splits()
    if not splits["train"]:
        raise ValueError("this Python carries no sources of its standard library; use task=text data.path=FOLDER")
    note = f"sources of the standard library of Python {platform.python_version()}, split by top-level module"
    return ByteModel(
        splits,
        length=data.length,
        validation_bytes=data.validation_bytes,
        test_bytes=data.test_bytes,
        data_note=note,
    )
