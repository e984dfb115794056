"""Real tensors over the places of a line or a grid, and their frequencies.

Shapes: B batch, one or more axes of places, the last with P places and F = P // 2 + 1 frequencies, D channels.
"""

from typing import Any

import torch
from torch import Tensor

from mixers.ops.fourier import multiplicity
from mixers.ops.precision import wide


def to_frequencies(x: Tensor) -> Tensor:
    """The orthonormal transform of real x (B, ..., P, D): complex (B, ..., F, D), in at least float32."""
    return _Transform.apply(x.to(wide(x)))


def from_frequencies(spectrum: Tensor, places: int) -> Tensor:
    """The orthonormal inverse: complex (B, ..., F, D) to real (B, ..., P, D), P = places.

    The last axis goes last and alone, so what no real tensor has (an imaginary part at frequencies 0 and P / 2 of the
    last axis, once the others are inverted) is dropped on every device; torch's irfftn leaves that to its libraries.
    """
    *others, last = range(1, spectrum.dim() - 1)
    if others:
        spectrum = torch.fft.ifftn(spectrum, dim=others, norm="ortho")
    return torch.fft.irfft(spectrum, places, dim=last, norm="ortho")


class _Transform(torch.autograd.Function):
    """rfftn, whose derivative is one inverse: autograd's own is a complex transform of all frequencies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.places = x.shape[-2]
        return torch.fft.rfftn(x, dim=tuple(range(1, x.dim() - 1)), norm="ortho")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return from_frequencies(gradients[0] / multiplicity(ctx.places, gradients[0])[:, None], ctx.places)
