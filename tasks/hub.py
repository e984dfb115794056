"""Data sets of the Hugging Face hub, and the same parquet files in a folder; one clear line where one cannot be had."""

import re
from collections.abc import Callable, Iterator
from logging import CRITICAL
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds that the hub may take to answer at all."""

AT_ONCE = 1000  # rows of a table that are read at a time


def load(repository: str, config: str | None = None) -> dict[str, Any]:
    """The splits of a data set, each a datasets.Dataset, downloaded or read from what an earlier download left.

    Raises ValueError, at once where there is no network, for data that cannot be had.
    """
    import datasets

    name = repository if config is None else f"{repository} ({config})"
    return _ask(name, lambda: {str(split): table for split, table in datasets.load_dataset(repository, config).items()})


def load_split(repository: str, config: str, split: str) -> Any:
    """One split, as `load` gives it."""
    import datasets

    return _ask(f"{repository} ({config})", lambda: datasets.load_dataset(repository, config, split=split))


def hub_file(repository: str, name: str) -> Path:
    """A file of a data set's repository on the hub, downloaded once.

    Raises ValueError as `load` does.
    """
    from huggingface_hub import hf_hub_download

    return _ask(f"{name} of {repository}", lambda: Path(hf_hub_download(repository, name, repo_type="dataset")))


def cause(error: BaseException) -> str:
    """What went wrong first, in a sentence."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__


def from_parquet(files: list[Path]) -> Any:
    """Parquet files one after the other as a datasets.Dataset.

    Raises ValueError, naming the file, for a damaged one, for a shard that is missing, and where there are no rows.
    """
    import datasets
    import pyarrow
    from pyarrow import parquet

    _require_shards(files)
    tables = []
    for path in files:
        try:
            tables.append(parquet.read_table(path))
        except PermissionError:
            raise
        except (pyarrow.ArrowException, OSError) as error:
            line = str(error).rpartition("': ")[2].split(".")[0].split("\n")[0]
            raise ValueError(f"{path} is no whole parquet file ({line}): download it again") from error
        if tables[-1].column_names != tables[0].column_names:
            columns = (", ".join(table.column_names) for table in (tables[-1], tables[0]))
            raise ValueError(f"{path} has the columns {next(columns)}, and {files[0].name} beside it {next(columns)}")
    whole = pyarrow.concat_tables(tables)
    if not len(whole):
        raise ValueError(f"{files[0]} holds no rows: download it again")
    return datasets.Dataset(whole)


def records(table: Any, texts: list[str], where: str, *, label: str | None = None) -> Iterator[tuple]:
    """The rows of a table: their `texts`, and their label where its column is named.

    Raises ValueError where a column is missing, and for a text that is none.
    """
    columns = texts if label is None else [*texts, label]
    if missing := [column for column in columns if column not in table.column_names]:
        raise ValueError(f"{where} has the columns {', '.join(table.column_names)}, and {missing[0]} is wanted")
    for name in texts:
        column = table.data.column(name)
        if str(column.type) not in ("string", "large_string", "string_view"):
            raise ValueError(f"{where}: the column {name} holds {column.type}, and text is wanted")
        if column.null_count:
            row = 1 + column.is_null().index(True).as_py()
            raise ValueError(f"{where}, row {row} has no {name}; download it again")
    for start in range(0, len(table), AT_ONCE):
        try:
            batch = table[start : start + AT_ONCE]
        except UnicodeDecodeError as error:
            place = f"{where}, one of rows {start + 1} to {start + AT_ONCE}"
            raise ValueError(f"{place}: a text is not UTF-8 ({error.reason}); download it again") from error
        yield from zip(*(batch[column] for column in columns), strict=True)


def _require_shards(files: list[Path]) -> None:
    shards = [match for path in files if (match := re.search(r"-(\d+)-of-(\d+)\.parquet$", path.name))]
    for match in shards[:1]:
        found, wanted = {int(other[1]) for other in shards}, int(match[2])
        if missing := sorted(set(range(wanted)) - found):
            raise ValueError(f"{files[0].parent} lacks shard {missing[0]} of {wanted} beside {files[0].name}")


def _ask(name: str, get: Callable[[], Any]) -> Any:
    """What the hub's clients get. Where it does not answer they are told to use what they have kept: they would try
    again for half a minute."""
    import datasets
    from datasets import config as datasets_settings
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as hub_logging

    datasets.disable_progress_bars()
    for logging in (datasets.logging, hub_logging):
        logging.set_verbosity(CRITICAL)  # they would print what is raised here
    if not _answers():
        datasets_settings.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        return get()
    except Exception as error:  # whatever the client, the network or the builder raises
        raise ValueError(
            f"cannot load {name} from the Hugging Face hub ({cause(error)}); give the same files with data.path=FOLDER"
        ) from error


def _answers() -> bool:
    """Whether the hub, or the mirror that HF_ENDPOINT names, can be reached."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # each version has its own HTTP library
        return False
    return True
