"""Kernels in CUDA C++ run by the CPU: their own source, compiled beside `emulator.hpp`."""

import ctypes
import functools
import hashlib
import mmap
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import mixers.ops.kernels
from mixers.ops.kernels.program import Argument, Form, addresses, values

SOURCES = Path(mixers.ops.kernels.__file__).parent / "cuda"
HEADER = Path(__file__).parent / "emulator.hpp"
COMPILED = Path(__file__).parents[4] / ".pytest_cache" / "emulator"


class EmulatedKernel:
    """What `kernel` gives, for tensors on the CPU."""

    def __init__(self, name: str, form: Form, device: torch.device):
        self.start = library(name, form).start_kernel
        self.block = form.block(name)

    def __call__(self, blocks: int, *arguments: Argument) -> None:
        tensors = [part for part in arguments if isinstance(part, Tensor)]
        tensors += [part for parts in arguments if isinstance(parts, list) for part in parts]
        copies = {id(tensor): fenced(tensor) for tensor in tensors}
        passed = values(replaced(part, copies) for part in arguments)
        beyond = self.start(blocks, *self.block, addresses(passed))
        assert beyond >= 0, "threads wait for others of their block that have come to their end"
        assert not beyond, f"byte {beyond} of shared memory was written"
        for tensor in tensors:
            ctypes.memmove(tensor.data_ptr(), copies[id(tensor)].data_ptr(), copies[id(tensor)].numel())


def replaced(argument: Argument, copies: dict[int, Tensor]) -> Argument:
    if isinstance(argument, Tensor):
        return copies[id(argument)]
    return [copies[id(part)] for part in argument] if isinstance(argument, list) else argument


def fenced(tensor: Tensor) -> Tensor:
    """A copy of its bytes behind which nobody may read or write; who does, ends the process. It begins as many bytes
    after a multiple of 16 as the tensor does."""
    if tensor.numel() == 0:
        return tensor
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    count, page = (last + 1) * tensor.element_size(), mmap.PAGESIZE
    end = page * (2 + count // page)
    memory = mmap.mmap(-1, end + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + end), page, 0) == 0
    begin = end - count - (end - count - tensor.data_ptr()) % 16
    copy = torch.frombuffer(memory, dtype=torch.uint8, offset=begin, count=count)
    ctypes.memmove(copy.data_ptr(), tensor.data_ptr(), count)
    return copy


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
