"""What a module computes from its parameters alone, kept while they do not change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class Keeper(nn.Module):
    """Keeps results only in eval mode with gradients off; train(), load_state_dict and a move drop them.

    A parameter or buffer that was replaced or written to is noticed by its identity, version and address. A write
    through `.data` or numpy, and one by a fused optimizer, leaves no trace of itself: a forward with gradients on,
    which training has before every step, drops all that is kept; where there was none, call eval() after the write.
    Nothing kept is saved, copied or pickled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop()

    def drop(self) -> None:
        """Forget all that is kept."""
        self._kept: dict[str, Any] = {}
        self._marks: list[tuple[Tensor, int, Tensor]] = []

    def keep(self, name: str, suits: Callable[[Any], bool], compute: Callable[[], Any]) -> Any:
        """What is kept under `name` if it suits, else compute(), which takes its place."""
        if torch.compiler.is_compiling():
            return compute()
        if self.training or torch.is_grad_enabled():
            self.drop()
            return compute()
        tensors = list(chain(self.parameters(), self.buffers()))
        if any(tensor.is_inference() for tensor in tensors):  # these do not count their changes
            return compute()
        if not self._unchanged(tensors):
            self.drop()
            # the detached tensor keeps the storage, so that no other can take its address
            self._marks = [(tensor, tensor._version, tensor.detach()) for tensor in tensors]
        kept = self._kept  # if another thread drops it meanwhile, what is computed here is dropped with it
        if name in kept and suits(kept[name]):
            return kept[name]
        value = kept[name] = compute()
        return value

    def _unchanged(self, tensors: list[Tensor]) -> bool:
        return len(tensors) == len(self._marks) and all(
            tensor is marked and tensor._version == version and tensor.data_ptr() == storage.data_ptr()
            for tensor, (marked, version, storage) in zip(tensors, self._marks, strict=True)
        )

    def train(self, mode: bool = True) -> Keeper:
        """Set training or evaluation mode, and forget all that is kept."""
        self.drop()
        return super().train(mode)

    def _apply(self, fn: Callable, recurse: bool = True) -> Keeper:
        self.drop()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.drop()
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_marks": []}
