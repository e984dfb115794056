"""Products of spectra: a circular product of real sequences by FFT, with derivatives that reuse the transforms.

Shapes: B batch, N length, D channels, S size of the transform (N <= S), F = S // 2 + 1 frequencies.
"""

from typing import Any

import torch
from torch import Tensor

from mixers.ops.circular import by_channel, product, product_gradients
from mixers.ops.precision import wide


def spectrum(kernel: Tensor, size: int) -> Tensor:
    """The transform (D, F) of a real kernel (D, up to S), zeros behind."""
    return _Spectrum.apply(kernel, size)


def circular_product(kernel: Tensor, x: Tensor, size: int) -> Tensor:
    """The first N values (B, N, D) of the product modulo `size` of x (B, N, D) and a kernel, given its spectrum (D, F).

    y has the dtype and the strides of x; the transforms have the precision of the spectrum.
    """
    return _Product.apply(kernel, x, size)


class _Spectrum(torch.autograd.Function):
    """rfft, whose derivative is one irfft: autograd's own is a complex transform of the full size."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, size: int) -> Tensor:
        ctx.lags, ctx.size = kernel.shape[1], size
        return torch.fft.rfft(kernel.contiguous(), size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        halved = gradients[0] / multiplicity(ctx.size, gradients[0])
        return torch.fft.irfft(halved, ctx.size)[:, : ctx.lags] * ctx.size, None


class _Product(torch.autograd.Function):
    """irfft(spectrum * rfft(x))[:N]. Forward keeps the transform of x where the spectrum will want it back."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, x: Tensor, size: int) -> Tensor:
        y, kept = product(kernel, x, size, ctx.needs_input_grad[0])
        ctx.size = size
        ctx.save_for_backward(kernel, x, kept)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        kernel, x, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of kernel and x
            return *_differentiable_gradients(kernel, x, gradients[0], ctx.size), None
        dkernel, dx = product_gradients(kernel, kept, gradients[0], ctx.size)
        if not ctx.needs_input_grad[0]:
            return None, dx, None
        return dkernel * (multiplicity(ctx.size, kernel) / ctx.size), dx, None


def _differentiable_gradients(kernel: Tensor, x: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The gradients of the product by kernel and x, as functions that autograd can differentiate again."""
    x_transform, dy_transform = (torch.fft.rfft(by_channel(part).to(wide(kernel.real)), size) for part in (x, dy))
    dkernel = (x_transform.conj() * dy_transform).sum(1) * multiplicity(size, kernel) / size
    return dkernel, circular_product(kernel.conj().resolve_conj(), dy, size)


def multiplicity(size: int, like: Tensor) -> Tensor:
    """How often each frequency of a real transform stands in the full one: 0 and size / 2 once, the others twice."""
    count = torch.full((size // 2 + 1,), 2.0, dtype=like.real.dtype, device=like.device)
    count[0] = 1
    if size % 2 == 0:
        count[-1] = 1
    return count
