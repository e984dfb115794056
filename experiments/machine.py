"""Where a run computes: device, precision, threads, and the versions that it saves."""

import dataclasses
import platform
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments.config import Train
from experiments.errors import UserError


def choose_device(train: Train) -> torch.device:
    """The device of a run.

    Raises UserError where CUDA is asked for and absent.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device=cuda, but this machine has no CUDA device; use cpu or auto")
    return torch.device("cuda" if train.device != "cpu" and torch.cuda.is_available() else "cpu")


def uses_bfloat16(train: Train, device: torch.device) -> bool:
    """Whether training runs under bfloat16 autocast."""
    return train.precision == "bfloat16" or (train.precision == "auto" and device.type == "cuda")


def autocast(train: Train, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the settings ask for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(train, device))


def settle(train: Train, *, threads: int) -> Train:
    """The settings with device, precision and threads written out, since results depend on them."""
    device = choose_device(train)
    precision = "bfloat16" if uses_bfloat16(train, device) else "float32"
    return dataclasses.replace(train, device=device.type, precision=precision, threads=train.threads or threads)


def prepare(train: Train) -> None:
    """Set the thread count and determinism of this process."""
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    torch.use_deterministic_algorithms(train.deterministic)


def environment(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside its settings."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("mixerzoo", "torch", "timm")},
        "system": platform.platform(),
        "device": name,
        "threads": torch.get_num_threads(),
    }


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of the peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with suppress(OSError):  # not every sandbox allows it; the peak is then that of all runs so far
            _CLEAR.write_text("5")  # Linux: the peak of the resident set starts anew


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since the reset: of the device on CUDA, of the whole process on Linux, else None."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():
        return None
    lines = [line.split() for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else None


def peak_rise(action: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes by which an action raises the peak; None where peaks are not known.

    On a CPU it is a lower bound, unless the process is new: memory that the process held before counts as free.
    """
    reset_peak_memory(device)
    before = peak_memory(device)
    action()
    after = peak_memory(device)
    return None if before is None or after is None else max(0, after - before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on any device."""
    said = str(error).lower()
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "out of memory" in said or "can't allocate memory" in said


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
