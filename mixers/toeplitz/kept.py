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
    through `.data` leaves no trace of itself: call eval() after it. Nothing kept is saved, copied or pickled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop()

    def drop(self) -> None:
        """Forget all that is kept."""
        self._kept: dict[str, Any] = {}
        self._marks: list[tuple[Tensor, int, int]] = []

    def keep(self, name: str, suits: Callable[[Any], bool], compute: Callable[[], Any]) -> Any:
        """What is kept under `name` if it suits, else compute(), which takes its place."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        tensors = list(chain(self.parameters(), self.buffers()))
        if any(tensor.is_inference() for tensor in tensors):  # these do not count their changes
            return compute()
        marks = [(tensor, tensor._version, tensor.data_ptr()) for tensor in tensors]
        if not _same(marks, self._marks):
            self.drop()
            self._marks = marks
        if name not in self._kept or not suits(self._kept[name]):
            self._kept[name] = compute()
        return self._kept[name]

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


def _same(marks: list[tuple[Tensor, int, int]], others: list[tuple[Tensor, int, int]]) -> bool:
    return len(marks) == len(others) and all(
        one[0] is other[0] and one[1:] == other[1:] for one, other in zip(marks, others, strict=True)
    )
