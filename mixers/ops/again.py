"""Memory for time: what autograd computes again instead of keeping it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


def computed_again(tensor: Tensor, compute: Callable[[], Tensor]) -> torch.autograd.graph.saved_tensors_hooks:
    """A context in which operations keep nothing of `tensor` for their gradients: they call `compute`, which gives the
    same numbers, when they need it. What `compute` refers to is kept instead."""
    storage, shape = StorageWeakRef(tensor.untyped_storage()), tensor.shape  # no reference to its memory

    def pack(kept: Tensor) -> Tensor | None:
        same = StorageWeakRef(kept.untyped_storage()) == storage and kept.shape == shape
        return None if same else kept

    def unpack(kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        with torch.no_grad():
            return compute()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
