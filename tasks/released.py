"""Reading data sets as they were released; what is missing or damaged is one line that names the file and the row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def require(path: Path, what: str) -> Path:
    """The path, which must be there.

    Raises ValueError.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; {what}")
    return path


def folder(path: str, what: str) -> Path:
    """The folder that data.path names, where `what` should lie.

    Raises ValueError.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.path={path} is no folder; give the one that holds {what}")
    return root


def table_rows(file: Path, columns: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Place ("FILE, row 7") and fields of each line of a tab-separated file in UTF-8; quotes mean nothing.

    Raises ValueError.
    """
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}, row {number}"
            text = decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, place)
            fields = text.rstrip("\r\n").split("\t")
            if len(fields) != len(columns):
                raise ValueError(
                    f"{place}: {len(fields)} columns, not the {len(columns)} of {', '.join(columns)}, separated by tabs"
                )
            if not line.endswith(b"\n"):
                raise ValueError(f"{place}: the file ends in the middle of a row; download it anew")
            yield place, fields


def decode(content: bytes, place: str) -> str:
    """The text of bytes in UTF-8.

    Raises ValueError.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: byte {error.start} is not valid UTF-8; download the file anew") from error


def label(value: Any, classes: int, place: str) -> int:
    """A label 0 to classes - 1.

    Raises ValueError.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number not in range(classes):
        raise ValueError(f"{place}: the label is {value}, not a whole number from 0 to {classes - 1}")
    return int(number)
