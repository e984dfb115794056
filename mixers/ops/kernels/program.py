# pyright: reportAttributeAccessIssue=false
# (the names of cuda.core are made when it is imported, for one version of CUDA)
"""Kernels in CUDA C++, compiled by NVRTC when they are first started; no compiler needs to be installed."""

import ctypes
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cuda.bindings import driver
    from cuda.core import ObjectCode

Macros = tuple[tuple[str, str], ...]
Argument = Tensor | Sequence[Tensor] | int | float


@dataclass(frozen=True)
class Kernel:
    """A kernel of one device, started in blocks of `threads` threads with `shared` bytes of shared memory."""

    name: str
    function: "driver.CUfunction"
    device: torch.device
    threads: int
    shared: int

    def __call__(self, blocks: int, *arguments: Argument) -> None:
        """Start it on the current stream."""
        from cuda.bindings import driver
        from cuda.core import Device

        passed = values(arguments)
        at = addresses(passed)
        with torch.cuda.device(self.device):
            Device(self.device.index).set_current()  # a thread of autograd's may not have used the device yet
            stream = torch.cuda.current_stream(self.device).cuda_stream
            size = blocks, 1, 1, self.threads, 1, 1, self.shared
            (error,) = driver.cuLaunchKernel(self.function, *size, stream, ctypes.addressof(at), 0)
        _check(error, f"{self.name} did not start")


def values(arguments: Iterable[Argument]) -> list[Any]:
    """As kernels take them: numbers as int or float, tensors as pointers, several of them as an array of pointers."""
    return [_value(part) for part in arguments]


def _value(argument: Argument) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        if not -(2**31) <= argument < 2**31:
            raise ValueError(f"kernels take numbers of 32 bits, and {argument:,} has more")
        return ctypes.c_int(argument)
    return (ctypes.c_void_p * len(argument))(*(part.data_ptr() for part in argument))


def addresses(values: list[Any]) -> "ctypes.Array[ctypes.c_void_p]":
    """Where they are, for as long as they are."""
    return (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))


def _check(error: "driver.CUresult", what: str) -> None:
    if error.value:
        raise RuntimeError(f"{what}: {error.name}")


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
    compiled = _module(name, form.macros(name), device).get_kernel(name).handle
    most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    (error,) = driver.cuKernelSetAttribute(most, shared, compiled, driver.CUdevice(device.index))
    _check(error, f"{name} needs {shared:,} bytes of shared memory a block")
    return Kernel(name, driver.CUfunction(int(compiled)), device, threads, shared)


@functools.cache
def _module(name: str, macros: Macros, device: torch.device) -> "ObjectCode":
    """Kept, for its kernel lasts no longer."""
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
