"""Data sets of the Hugging Face hub, with one clear line where one cannot be had."""

from typing import Any

PATIENCE = 10.0
"""Seconds that the hub may take to answer at all."""


def load(repository: str) -> dict[str, Any]:
    """The splits of a data set, downloaded by `datasets` or read from its cache.

    Raises ValueError at once where there is no network (but HF_HUB_OFFLINE=1 reads what is cached), and where the hub
    does not give the data set away.
    """
    from datasets import config, load_dataset
    from huggingface_hub import HfApi

    try:
        if not config.HF_HUB_OFFLINE:  # `datasets` itself would try again for half a minute
            HfApi().dataset_info(repository, timeout=PATIENCE)
        return {str(name): table for name, table in load_dataset(repository).items()}
    except Exception as error:  # whatever the client, the network or the builder raises
        raise ValueError(
            f"cannot load {repository} from the Hugging Face hub ({' '.join(str(error).split())}); "
            "give the same files with data.path=FOLDER, or what an earlier download left with HF_HUB_OFFLINE=1"
        ) from error
