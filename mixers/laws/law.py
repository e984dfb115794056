"""What a law is, how it says that it is broken, and the one table of tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixers.laws.subject import Trial

NEAR = {torch.float64: 1e-10, torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far two runs that should agree may differ, relative to the largest magnitude."""

CAUSAL = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""How far the future may move the past, relative to the largest magnitude."""


class BrokenLaw(AssertionError):
    """A mixer does not do what it claims, or what every mixer must do. `crashed`: it raised something of its own."""

    def __init__(self, message: str, *, crashed: bool = False):
        super().__init__(message)
        self.crashed = crashed


@dataclass(frozen=True)
class Law:
    """A sentence about mixers and the function that tries to break it. Universal laws belong to no claim."""

    name: str
    says: str
    check: Callable[[Trial], None]
    claim: str | None = None
    form: bool | None = None  # True: of the causal form alone, False: of the bidirectional form alone


def expect(holds: bool | Tensor, message: str) -> None:
    """Raise BrokenLaw unless `holds`."""
    if not holds:
        raise BrokenLaw(message)


def expect_near(actual: Tensor, expected: Tensor, what: str, *, tolerance: float | None = None) -> None:
    """Raise BrokenLaw unless the two differ by at most tolerance times the largest magnitude; NaN is never near."""
    tolerance = NEAR[actual.dtype] if tolerance is None else tolerance
    expect(actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    gap, size = largest(actual.double() - expected.double()), max(largest(actual), largest(expected))
    expect(gap <= tolerance * size, f"{what}: a difference of {gap:.2e} where magnitudes reach {size:.2e}")


def expect_finite(tensor: Tensor, what: str) -> None:
    """Raise BrokenLaw where a NaN or an infinity stands in the tensor."""
    expect(torch.isfinite(tensor).all(), f"{what}: NaN or infinity")


def largest(tensor: Tensor) -> float:
    """The largest magnitude, 0 for an empty tensor, NaN where one stands in it."""
    return tensor.detach().abs().max().item() if tensor.numel() else 0.0
