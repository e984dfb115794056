"""The tasks: one module and one recipe (yaml) of the same name each, some in folders. Listing them imports no torch."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.contract import Task

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all tasks, such as listops and lra/listops."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def recipe(name: str) -> Path:
    """The yaml file that holds a task's settings."""
    return _FOLDER / f"{name}.yaml"


def data_options(name: str) -> type:
    """The dataclass of a task's `data.` options."""
    return _module(name).Data


def load(name: str, data: Any) -> "Task":
    """The task with its data read or generated.

    Raises ValueError or OSError with one line where the data cannot be had.
    """
    return _module(name).load(data)


def _module(name: str) -> Any:
    return importlib.import_module(f"tasks.{name.replace('/', '.')}")
