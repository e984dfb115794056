"""Reading data sets as they were released; what is missing or damaged is one line that names the file and the row."""

from __future__ import annotations

from collections.abc import Iterator
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


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
            yield place, fields


def decode(content: bytes, place: str) -> str:
    """The text of bytes in UTF-8.

    Raises ValueError.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: byte {error.start} is not valid UTF-8; download the file anew") from error


def label(value: str | float, classes: int, place: str) -> int:
    """A label 0 to classes - 1.

    Raises ValueError.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if number not in range(classes):
        raise ValueError(f"{place}: the label is {value}, not a whole number from 0 to {classes - 1}")
    return int(number)


def hub_rows(source: str, split: str, columns: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    """Place ("SOURCE, train, row 7") and the columns' values of each row of a split, of a data set of the hub or of the
    same files in a local folder; an image is {"bytes": the content of its file}.

    Raises ValueError.
    """
    import datasets

    table = _hub_table(source, split)
    if not set(columns) <= set(table.column_names):
        raise ValueError(
            f"{source}, {split}: the columns are {', '.join(table.column_names)}, not {' and '.join(columns)}"
        )
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    for row in range(len(table)):
        example = table[row]
        yield f"{source}, {split}, row {row}", [example[name] for name in columns]


def _hub_table(source: str, split: str) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import logging as hub_logging

    datasets.disable_progress_bars()
    for logging in (datasets.logging, hub_logging):
        logging.set_verbosity(CRITICAL)  # they would print what is raised here
    local = Path(source).expanduser()
    try:
        return datasets.load_dataset(str(local) if local.exists() else source, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        cause = _cause(error)
        if local.exists():
            raise ValueError(f"{source} holds no readable {split} split: {cause}") from error
        raise ValueError(f"cannot load {source} from the hub ({cause}); give its files with data.path=") from error


def hub_file(repository: str, name: str) -> Path:
    """A file of a data set's repository on the hub, downloaded once.

    Raises ValueError.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity(CRITICAL)  # it would print what is raised here
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ValueError(
            f"cannot load {name} of {repository} from the hub ({_cause(error)}); give its folder with data.path="
        ) from error


def _cause(error: BaseException) -> str:
    """The last line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__
