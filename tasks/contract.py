"""What every task is.

Shapes: B batch, N length.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Backbone = TypeVar("Backbone", bound=nn.Module)


class Build(Protocol):
    """Builds a backbone from the run's mixers and settings: `build(Stack)`, or another class or function that takes
    what backbones.stack.Stack takes; `own` is what it takes beside that.
    """

    def __call__(self, backbone: Callable[..., Backbone], **own: Any) -> Backbone: ...


class DataError(ValueError):
    """An example that cannot be read: which one, and what is wrong with it."""


class Task(Protocol):
    """One benchmark: its data, the model around the mixers, the loss and the metric.

    `batch` and `evaluate` raise DataError for an example that cannot be read. A model has two callables, `embedding`,
    inputs -> (B, N, D), and `stack`, (B, N, D) -> (B, N, D), which hold the mixers.
    """

    causal: bool  # the form of the mixers
    length: int  # the largest N in training
    grid: tuple[int, int] | None  # (H, W) of tasks over images, row by row
    metric: str  # what `evaluate` returns, and what a comparison judges by
    higher_is_better: bool
    tokenizer: str | None  # the size and hash of its vocabulary, where there is one: a checkpoint means nothing without
    data_hash: str  # of all the data: results over different hashes are not comparable
    data_note: str  # one sentence on where the data comes from

    def model(self, build: Build, *, seed: int) -> nn.Module:
        """The model around the backbone that `build` makes."""
        ...

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """`size` training examples, on the CPU; equal arguments give equal batches."""
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
        """Inputs from the validation split, to look at a model with: token sequences (count, length), or images."""
        ...

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        """The metric by length, over the same held-out tokens; {} where the task has no such measure."""
        ...


def device_of(model: nn.Module) -> Any:
    """Where a model's parameters are."""
    return next(model.parameters()).device
