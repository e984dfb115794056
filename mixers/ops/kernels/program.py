# pyright: reportAttributeAccessIssue=false
# (the names of cuda.core are made when it is imported, for one version of CUDA)
"""Kernels in CUDA C++, compiled by NVRTC when they are first started; no compiler needs to be installed."""

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cuda.core import Kernel as CompiledKernel
    from cuda.core import LaunchConfig, ObjectCode, Stream

Macros = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Kernel:
    """A kernel of one device, started in blocks of `threads` threads with `shared` bytes of shared memory."""

    compiled: "CompiledKernel"
    device: torch.device
    threads: int
    shared: int

    def __call__(self, grid: tuple[int, ...], *arguments: Tensor | int | float) -> None:
        """Start it on the current stream. Numbers are passed as int or float, and tensors as pointers."""
        from cuda.core import Device, launch

        passed = (part.data_ptr() if isinstance(part, Tensor) else number(part) for part in arguments)
        with torch.cuda.device(self.device):
            Device(self.device.index).set_current()  # a thread of autograd's may not have used the device yet
            stream = _stream(torch.cuda.current_stream(self.device).cuda_stream, self.device)
            launch(stream, _config(grid, self.threads, self.shared), self.compiled, *passed)


def number(value: int | float) -> "ctypes.c_int | ctypes.c_float":
    """As kernels take it."""
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int(value)


class Form(Protocol):
    """What kernels are compiled for."""

    def macros(self, name: str) -> Macros:
        """What the kernel of this name is compiled with."""
        ...

    def block(self, name: str) -> tuple[int, int]:
        """Its block's threads, and bytes of shared memory."""
        ...


@functools.cache
def kernel(name: str, form: Form, device: torch.device) -> Kernel:
    """The kernel of the file `name`.cu in the folder `cuda`."""
    from cuda.bindings import driver

    threads, shared = form.block(name)
    compiled = _module(name, form.macros(name), device).get_kernel(name)
    most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    (error,) = driver.cuKernelSetAttribute(most, shared, compiled.handle, driver.CUdevice(device.index))
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{name} needs {shared:,} bytes of shared memory a block: {error.name}")
    return Kernel(compiled, device, threads, shared)


@functools.cache
def _stream(handle: int, device: torch.device) -> "Stream":
    """Each device's own, though default streams have one handle."""
    from cuda.core import Stream

    return Stream.from_handle(handle)


@functools.cache
def _config(grid: tuple[int, ...], threads: int, shared: int) -> "LaunchConfig":
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=grid, block=threads, shmem_size=shared)


@functools.cache
def _module(name: str, macros: Macros, device: torch.device) -> "ObjectCode":
    major, minor = torch.cuda.get_device_capability(device)
    return compiled(name, macros, f"sm_{major}{minor}")


def compiled(name: str, macros: Macros, architecture: str) -> "ObjectCode":
    """The file `name`.cu for an architecture such as sm_90."""
    from cuda.core import Program, ProgramOptions

    folder = Path(__file__).parent / "cuda"
    options = ProgramOptions(
        name=name, std="c++17", arch=architecture, define_macro=list(macros), include_path=str(folder)
    )
    return Program((folder / f"{name}.cu").read_text(encoding="utf-8"), "c++", options).compile("cubin")
