"""Kernels in CUDA C++ run by the CPU: their own source, compiled beside `emulator.hpp`."""

import ctypes
import functools
import hashlib
import math
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import mixers.ops.kernels
from mixers.ops.kernels.program import Form, number

SOURCES = Path(mixers.ops.kernels.__file__).parent / "cuda"
HEADER = Path(__file__).parent / "emulator.hpp"
COMPILED = Path(__file__).parents[4] / ".pytest_cache" / "emulator"


class EmulatedKernel:
    """What `kernel` gives, for tensors on the CPU."""

    def __init__(self, name: str, form: Form, device: torch.device):
        self.start = library(name, form).start_kernel
        self.block = form.block(name)

    def __call__(self, grid: tuple[int, ...], *arguments: Tensor | int | float) -> None:
        values = [ctypes.c_void_p(part.data_ptr()) if isinstance(part, Tensor) else number(part) for part in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        beyond = self.start(math.prod(grid), *self.block, pointers)
        assert beyond >= 0, "threads wait for others of their block that have come to their end"
        assert not beyond, f"byte {beyond} of shared memory was written"


@functools.cache
def library(name: str, form: Form) -> ctypes.CDLL:
    """A kernel, which whatever process needs it first compiles for all."""
    macros = [f"-D{key}={value}" for key, value in form.macros(name)]
    macros += [f"-DKERNEL={name}", f'-DKERNEL_FILE="{SOURCES / name}.cu"']
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-x", "c++"]
    command += ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]  # a GPU stops there, too
    command += [*macros, f"-I{SOURCES}", str(HEADER)]
    made_of = [platform.machine(), *command, *(path.read_text() for path in (HEADER, *sorted(SOURCES.iterdir())))]
    target = COMPILED / f"{name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()}.so"
    if not target.exists():
        COMPILED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=COMPILED) as folder:
            made = Path(folder) / "library.so"
            subprocess.run([*command, "-o", str(made)], check=True)
            made.replace(target)
    return ctypes.CDLL(str(target))
