"""A process that trains runs one after another: folders come in as lines, records go out as JSON lines."""

import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from experiments.errors import Diverged, UserError, one_line
from experiments.files import read_json, write_json
from experiments.train import load_settings, train

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}
"""Errors that the next run would meet too."""


def work() -> None:
    """Serve until the input ends. Whatever the libraries print goes to the error stream."""
    records = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        _send(records, folder, **_attempt(folder, records))


def _attempt(folder: Path, records: TextIO) -> dict[str, Any]:
    """Train the run in `folder`; what became of it."""
    last = 0.0

    def progress(done: int, total: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last >= 0.2:
            last = time.monotonic()
            _send(records, folder, event="progress", done=done, total=total, loss=loss)

    try:
        train(folder, progress)
        return {"event": "done"}
    except UserError as error:
        return {"event": "refused", "reason": str(error)}
    except OSError as error:
        if error.errno in DISK_ERRORS:
            return {"event": "refused", "reason": f"{folder}: {error.strerror}; what was written before is kept"}
        return _failed(folder, error)
    except Exception as error:  # one run's failure must not end the others
        return _failed(folder, error)


def _failed(folder: Path, error: Exception) -> dict[str, Any]:
    if not isinstance(error, Diverged):
        traceback.print_exc()
    reason = str(error) if isinstance(error, Diverged) else f"{type(error).__name__}: {one_line(error)}"
    mark_failed(folder, reason)
    return {"event": "failed", "reason": reason}


def mark_failed(folder: Path, reason: str) -> None:
    """Record in the run's folder that it failed, and why."""
    if (read_json(folder / "result.json") or {}).get("status") != "done":
        run = load_settings(folder)
        write_json(folder / "result.json", {"status": "failed", "label": run.label, "seed": run.seed, "reason": reason})


def _send(records: TextIO, folder: Path, **record: Any) -> None:
    try:
        records.write(json.dumps({"folder": str(folder), **record}) + "\n")
    except BrokenPipeError:  # the parent is gone: the run goes on from its checkpoint another time
        os._exit(1)


def end_with_parent(parent: int) -> None:
    """End this process once its parent is gone: nobody hears it any more."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
