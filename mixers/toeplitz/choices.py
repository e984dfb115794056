"""The functions that keywords of this family choose among."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor) -> Tensor:
    """x / (rms(x) + 1e-8) over the last dimension, without parameters: TNN's simple RMS norm."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5 + 1e-8)


def layer_norm(x: Tensor) -> Tensor:
    """(x - mean(x)) / std(x) over the last dimension, without parameters."""
    return F.layer_norm(x, x.shape[-1:])


def identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "none": identity}
NORMS = {"rms": rms_norm, "layer": layer_norm, "none": identity}


def choose(table: dict[str, Callable], keyword: str, name: str) -> Any:
    """The function called `name`.

    Raises ValueError, naming the keyword, for one that the table does not have.
    """
    if name not in table:
        raise ValueError(f"{keyword}={name!r} must be one of {', '.join(table)}")
    return table[name]
