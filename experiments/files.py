"""Text and JSON files that are whole or absent."""

import json
import os
from pathlib import Path
from typing import Any

from tasks.files import replacing


def write_text(path: Path, text: str) -> None:
    """Replace the file by `text`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Replace the file by `content` as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; a last line that was cut off is left out."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add a record to a JSON-lines file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
