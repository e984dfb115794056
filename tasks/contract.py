"""What every task is.

Shapes: B batch, N length.
"""

from typing import Any, Protocol

from torch import Tensor, nn

from backbones.stack import Stack

Batch = tuple[Tensor, ...]


class Task(Protocol):
    """One benchmark: its data, the model around a stack, the loss and the metric."""

    causal: bool  # the form of the mixers
    length: int  # the largest N in training
    grid: tuple[int, int] | None  # (H, W) of tasks over images, row by row
    metric: str  # what `evaluate` returns, and what a comparison judges by
    higher_is_better: bool
    vocabulary: str | None  # the size and hash of a tokenizer's vocabulary, without which a checkpoint means nothing
    data_hash: str  # of all the data: results over different hashes are not comparable
    data_note: str  # one sentence on where the data comes from

    def model(self, stack: Stack, *, seed: int) -> nn.Module:
        """The model around the stack."""
        ...

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """`size` training sequences, on the CPU; equal arguments give equal batches."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The training loss of a batch on the model's device."""
        ...

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """The metrics on the test split, or on the validation split."""
        ...

    def baselines(self, *, test: bool) -> dict[str, float]:
        """The metric of simple methods that know nothing of mixers, on the test split or on the validation split."""
        ...

    def bar(self) -> tuple[str, str]:
        """The baseline that a model must beat, and what is said of one that does not."""
        ...

    def sample(self, count: int, length: int) -> Tensor:
        """Token sequences (count, length) from the validation split, to look at a model with."""
        ...

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        """The metric by length, over the same held-out tokens; {} where the task has no such measure."""
        ...


def device_of(model: nn.Module) -> Any:
    """Where a model's parameters are."""
    return next(model.parameters()).device
