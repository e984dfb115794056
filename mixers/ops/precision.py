"""The precision in which sums over many tokens are taken."""

import torch
from torch import Tensor


def wide(*tensors: Tensor) -> torch.dtype:
    """The dtype for FFTs, recurrences and sums: that of the tensors, and at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which operations on x's device keep the dtype of their inputs."""
    return torch.autocast(x.device.type, enabled=False)
