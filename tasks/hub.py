"""Tables from the Hugging Face hub through `datasets`, and the same parquet files in a folder."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 5.0  # that the hub has to answer


def from_hub(repository: str, config: str, split: str) -> Any:
    """A split as a datasets.Dataset; without a network, from what `datasets` kept of an earlier download.

    Raises ValueError with one line, at once where there is no network, for data that cannot be had.
    """
    import datasets
    from datasets import config as datasets_settings
    from huggingface_hub import constants

    if not _answers():  # else the library tries again and again
        datasets_settings.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(repository, config, split=split)
    except Exception as error:  # of the network, of the hub, of the disk
        raise ValueError(
            f"{repository} ({config}) cannot be had from the hub ({type(error).__name__}): without a network, put its "
            "files into a folder and give data.path=FOLDER"
        ) from error


def from_parquet(files: list[Path]) -> Any:
    """Parquet files one after the other as a datasets.Dataset.

    Raises ValueError, naming the file, for a damaged one, and for a shard that is missing.
    """
    import datasets
    import pyarrow
    from pyarrow import parquet

    _require_shards(files)
    tables = []
    for path in files:
        try:
            tables.append(parquet.read_table(path))
        except (pyarrow.ArrowException, OSError) as error:
            line = str(error).split(".")[0].split("\n")[0]
            raise ValueError(f"{path} is no whole parquet file ({line}): download it again") from error
    return datasets.Dataset(pyarrow.concat_tables(tables))


def records(table: Any, columns: list[str], where: str) -> Iterator[tuple]:
    """The rows of a table, their `columns` alone.

    Raises ValueError where it lacks one.
    """
    if missing := [column for column in columns if column not in table.column_names]:
        raise ValueError(f"{where} has the columns {', '.join(table.column_names)}, and {missing[0]} is wanted")
    for batch in table.iter(1000):
        yield from zip(*(batch[column] for column in columns), strict=True)


def _require_shards(files: list[Path]) -> None:
    shards = [match for path in files if (match := re.search(r"-(\d+)-of-(\d+)\.parquet$", path.name))]
    for match in shards[:1]:
        found, wanted = {int(other[1]) for other in shards}, int(match[2])
        if missing := sorted(set(range(wanted)) - found):
            raise ValueError(f"{files[0].parent} lacks shard {missing[0]} of {wanted} beside {files[0].name}")


def _answers() -> bool:
    """Whether the hub, or the mirror that HF_ENDPOINT names, can be reached."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # each version has its own HTTP library
        return False
    return True
