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
    """The dtype for matrix products whose sums are wide: bfloat16 where a linear layer of x would give that, else wide.

    Not float16: what is summed over tokens may be too large for it.
    """
    device = x.device.type
    given = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return given if given == torch.bfloat16 else wide(x)


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which operations on x's device keep the dtype of their inputs."""
    return torch.autocast(x.device.type, enabled=False)
