"""Data sets of the Hugging Face hub, with one clear line where one cannot be had."""

from logging import CRITICAL
from pathlib import Path
from typing import Any

PATIENCE = 10.0
"""Seconds that the hub may take to answer at all."""

INSTEAD = "give the same files with data.path=FOLDER, or what an earlier download left with HF_HUB_OFFLINE=1"


def load(repository: str) -> dict[str, Any]:
    """The splits of a data set, downloaded by `datasets` or read from its cache.

    Raises ValueError at once where there is no network (but HF_HUB_OFFLINE=1 reads what is cached), and where the hub
    does not give the data set away.
    """
    import datasets

    datasets.disable_progress_bars()
    _be_silent()
    try:
        _require_answer(repository)
        return {str(name): table for name, table in datasets.load_dataset(repository).items()}
    except Exception as error:  # whatever the client, the network or the builder raises
        raise ValueError(f"cannot load {repository} from the Hugging Face hub ({cause(error)}); {INSTEAD}") from error


def hub_file(repository: str, name: str) -> Path:
    """A file of a data set's repository on the hub, downloaded once.

    Raises ValueError as `load` does.
    """
    from huggingface_hub import hf_hub_download

    _be_silent()
    try:
        _require_answer(repository)
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except Exception as error:  # whatever the client or the network raises
        raise ValueError(
            f"cannot load {name} of {repository} from the Hugging Face hub ({cause(error)}); {INSTEAD}"
        ) from error


def cause(error: BaseException) -> str:
    """What went wrong first, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require_answer(repository: str) -> None:
    """Ask the hub once; its clients would try again for half a minute."""
    from datasets import config
    from huggingface_hub import HfApi

    if not config.HF_HUB_OFFLINE:
        HfApi().dataset_info(repository, timeout=PATIENCE)


def _be_silent() -> None:
    """The clients would print what is raised here."""
    from datasets.utils import logging as datasets_logging
    from huggingface_hub.utils import logging as hub_logging

    for logging in (datasets_logging, hub_logging):
        logging.set_verbosity(CRITICAL)
