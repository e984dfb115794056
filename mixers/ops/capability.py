"""What a GPU can do, by its compute capability."""

import functools

import torch

ROOMY = (9, 10)
"""The major ones whose blocks may have 227 KB of shared memory: others have 99 or 163."""


def capability(device: torch.device) -> tuple[int, int]:
    """Of a GPU, such as (9, 0) for Hopper."""
    compiling = torch.compiler.is_compiling()  # it asks once, and knows no cached functions
    return torch.cuda.get_device_capability(device) if compiling else _asked_capability(device)


@functools.cache
def _asked_capability(device: torch.device) -> tuple[int, int]:
    """Asking a device takes longer than a product."""
    return torch.cuda.get_device_capability(device)
