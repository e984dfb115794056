"""Folders of runs and comparisons: held by one command at a time, and never mixed up."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf

from experiments.checkpoint import differences
from experiments.config import read_mapping
from experiments.errors import UserError, user_errors
from experiments.files import write_text

PATIENCE = 60.0
"""Seconds that a command waits for the workers of a killed one."""


@contextmanager
def locked(folder: Path, notify: Callable[[str], None]) -> Iterator[TextIO]:
    """Hold the folder alone. Workers inherit the lock, so those that outlive a killed command are waited for.

    Raises UserError where the folder cannot be written to, or another command goes on in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115  closed below
    except OSError as error:
        raise UserError(f"cannot write to out={folder}: {error.strerror}") from error
    with file:
        end = time.monotonic() + PATIENCE
        told = False
        while not _take(file):
            if time.monotonic() > end:
                raise UserError(f"another command is running in {folder}; wait for it or choose another out=")
            if not told:
                notify("waiting for the workers of an earlier command to end")
                told = True
            time.sleep(0.5)
        yield file


def claim(folder: Path, settings: dict[str, Any], *, loose: tuple[str, ...] = ()) -> None:
    """Write the settings into a new folder; refuse one of other settings or other content.

    Keys in `loose` may differ. Raises UserError.
    """
    saved = saved_settings(folder)
    if saved is None:
        strangers = sorted(
            entry.name for entry in folder.iterdir() if entry.name != ".lock" and entry.suffix != ".part"
        )
        if strangers:
            raise UserError(
                f"{folder} is not empty and was not written by this command ({strangers[0]}); choose another out="
            )
        with user_errors():
            write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
        return
    mine, theirs = ({key: value for key, value in content.items() if key not in loose} for content in (settings, saved))
    if other := differences(theirs, mine):
        raise UserError(f"{folder} holds other work ({'; '.join(other[:3])}); choose another out=")


def saved_settings(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's config.yaml; None where there is none.

    Raises UserError for a damaged file.
    """
    path = folder / "config.yaml"
    return read_mapping(path) if path.exists() else None


def saved_threads(folder: Path) -> int | None:
    """The thread count of a folder's earlier command: continuing with another would not end bit for bit the same."""
    train = (saved_settings(folder) or {}).get("train")
    return train.get("threads") if isinstance(train, dict) else None


def _take(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
