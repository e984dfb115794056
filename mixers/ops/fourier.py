"""Products of spectra: a circular product of real sequences by FFT, with derivatives that reuse the transforms.

Shapes: B batch, N length, D channels, S size of the transform (N <= S), F = S // 2 + 1 frequencies.
"""

from typing import Any

import torch
from torch import Tensor

from mixers.ops.precision import wide

CACHED = 2**18
"""How many values of padded x are transformed at a time on a CPU: its transforms should stay in the cache."""

FEWEST = 8
"""But no fewer channels than this: several transforms share the cores and each row of x that is read."""


def padded_size(length: int) -> int:
    """The size of transform in which a product of `length` tokens does not wrap: even, 5-smooth, 2N to 2.5 N or 16."""
    unit = 2 ** max((length - 1).bit_length() - 4, 0)
    return 2 * unit * next(multiple for multiple in (8, 9, 10, 12, 15, 16) if multiple * unit >= length)


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
        y, kept = _forward(kernel, x, size, ctx.needs_input_grad[0])
        ctx.size = size
        ctx.save_for_backward(kernel, x, kept)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        kernel, x, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: the first must be a function of kernel and x
            return *_differentiable_gradients(kernel, x, gradients[0], ctx.size), None
        dkernel, dx = _backward(kernel, kept, gradients[0], ctx.size)
        return dkernel if ctx.needs_input_grad[0] else None, dx, None


@torch.library.custom_op("mixerzoo::circular_product", mutates_args=())
def _forward(kernel: Tensor, x: Tensor, size: int, keep: bool) -> tuple[Tensor, Tensor]:
    """The product, and the transform (D, B, F) of x if it is to be kept, else nothing. Opaque to torch.compile, which
    cannot fuse complex numbers."""
    y, kept = _empty(kernel, x, size, keep)
    for part, transform in _transforms(x, size, kernel):
        if keep:
            kept[part] = transform
        _write(y, part, torch.fft.irfft(transform.mul_(kernel[part, None]), size))
    return y, kept


@_forward.register_fake
def _empty(kernel: Tensor, x: Tensor, size: int, keep: bool) -> tuple[Tensor, Tensor]:
    channels, batch, _ = _by_channel(x).shape
    return torch.empty_like(x), kernel.new_empty((channels, batch, size // 2 + 1) if keep else (0, 0, 0))


@torch.library.custom_op("mixerzoo::circular_product_backward", mutates_args=())
def _backward(kernel: Tensor, kept: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The gradients by kernel, where the transform of x was kept, and by x."""
    dkernel, dx = _empty_gradients(kernel, kept, dy, size)
    for part, transform in _transforms(dy, size, kernel):
        if len(kept):
            dkernel[part] = torch.linalg.vecdot(kept[part], transform, dim=1)  # vecdot conjugates the first
        _write(dx, part, torch.fft.irfft(transform.mul_(kernel[part, None].conj()), size))
    return dkernel.mul_(multiplicity(size, kernel) / size), dx


@_backward.register_fake
def _empty_gradients(kernel: Tensor, kept: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(kernel), torch.empty_like(dy)


def _differentiable_gradients(kernel: Tensor, x: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The gradients of the product by kernel and x, as functions that autograd can differentiate again."""
    x_transform, dy_transform = (torch.fft.rfft(_by_channel(part).to(wide(kernel.real)), size) for part in (x, dy))
    dkernel = (x_transform.conj() * dy_transform).sum(1) * multiplicity(size, kernel) / size
    return dkernel, circular_product(kernel.conj().resolve_conj(), dy, size)


def _transforms(x: Tensor, size: int, kernel: Tensor):
    """(slice of channels, transform (channels, B, F) of x padded with zeros), a few channels at a time."""
    channels, batch, length = _by_channel(x).shape
    step = channels if x.is_cuda else max(FEWEST, CACHED // (batch * size))
    padded = kernel.real.new_zeros(min(step, channels), batch, size)
    for start in range(0, channels, step):
        part = slice(start, start + step)
        rows = padded[: min(step, channels - start)]
        rows[..., :length] = _read(x, part)
        yield part, torch.fft.rfft(rows)


def _by_channel(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1)  # (D, B, N)


def _read(x: Tensor, part: slice) -> Tensor:
    """A few channels of x, (channels, B, N). Where channels lie side by side, they are first copied out together: a
    transposition is fast from one contiguous block to another."""
    channels = x[..., part]
    return _by_channel(channels.contiguous() if x.stride(-1) == 1 else channels)


def _write(y: Tensor, part: slice, values: Tensor) -> None:
    """Put values (channels, B, S) into a few channels of y (B, N, D), transposed first as in `_read`."""
    channels = values[..., : y.shape[1]].permute(1, 2, 0)  # (B, N, channels)
    y[..., part] = channels.contiguous() if y.stride(-1) == 1 else channels


def multiplicity(size: int, like: Tensor) -> Tensor:
    """How often each frequency of a real transform stands in the full one: 0 and size / 2 once, the others twice."""
    count = torch.full((size // 2 + 1,), 2.0, dtype=like.real.dtype, device=like.device)
    count[0] = 1
    if size % 2 == 0:
        count[-1] = 1
    return count
