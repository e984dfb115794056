"""What is made of data once and read often: files under ~/.cache/mixerzoo, or the folder that MIXERZOO_CACHE names."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from tasks.files import replacing


def cached(name: str, key: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """The file called `name` that belongs to `key`; `make` writes it where it does not exist yet.

    It is whole or absent. Of several processes that want it at once, one makes it and the others wait.
    """
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:24]
    path = folder() / f"{digest}-{name}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # falls with the process that holds it
        if not path.exists():
            with replacing(path) as part:
                make(part)
    return path


def folder() -> Path:
    """Where cached files lie."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MIXERZOO_CACHE") or home / "mixerzoo")
