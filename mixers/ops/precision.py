"""The precision in which sums over many tokens are taken."""

import torch
from torch import Tensor


def wide(*tensors: Tensor) -> torch.dtype:
    """The dtype for FFTs, recurrences and sums: that of the tensors, and at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def products(x: Tensor) -> torch.dtype:
    """The dtype of matrix products that sum over tokens: bfloat16 where a linear layer of x would give that, else wide.

    Sums of bfloat16 numbers are taken in float32, and rounded once. Not float16: they may be too large for it.
    """
    given = linear_dtype(x)
    return given if given == torch.bfloat16 else wide(x)


def linear_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a linear layer of x computes in: autocast leaves float64 alone, and the meta device has none."""
    device = x.device.type
    casts = device != "meta" and torch.is_autocast_enabled(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if casts else x.dtype


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which operations on x's device keep the dtype of their inputs."""
    return torch.autocast(x.device.type, enabled=False)
