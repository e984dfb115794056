"""Memory for time: what autograd computes again instead of keeping it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


def computed_again(tensor: Tensor, compute: Callable[[], Tensor]) -> torch.autograd.graph.saved_tensors_hooks:
    """A context in which operations keep nothing of `tensor` for their gradients: they call `compute`, which gives the
    same numbers, when they need it. What `compute` refers to is kept instead."""
    storage, view = StorageWeakRef(tensor.untyped_storage()), _view(tensor)  # no reference to its memory

    def pack(kept: Tensor) -> Tensor | None:
        same = StorageWeakRef(kept.untyped_storage()) == storage and _view(kept) == view
        return None if same else kept

    def unpack(kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        with torch.no_grad():
            return compute()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _view(tensor: Tensor) -> tuple:
    """How it reads its storage."""
    return tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype
