"""The circular product of real sequences by FFT, and its gradients, as operators of torch's own kind.

torch.compile, which cannot fuse complex numbers, takes each as a whole.

Shapes: B batch, N length, D channels, S size of the transform (N <= S), F = S // 2 + 1 frequencies.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CACHED = 2**18
"""How many values of padded x are transformed at a time on a CPU: its transforms should stay in the cache."""

FEWEST = 8
"""But no fewer channels than this: several transforms share the cores and each row of x that is read."""


@torch.library.custom_op("mixerzoo::circular_product", mutates_args=())
def product(kernel: Tensor, x: Tensor, size: int, keep: bool) -> tuple[Tensor, Tensor]:
    """The product, and the transform (D, B, F) of x if it is to be kept, else nothing."""
    y, kept = _empty(kernel, x, size, keep)
    for part, transform in _transforms(x, size, kernel):
        if keep:
            kept[part] = transform
        _write(y, part, torch.fft.irfft(transform.mul_(kernel[part, None]), size))
    return y, kept


@product.register_fake
def _empty(kernel: Tensor, x: Tensor, size: int, keep: bool) -> tuple[Tensor, Tensor]:
    channels, batch, _ = by_channel(x).shape
    return torch.empty_like(x), kernel.new_empty((channels, batch, size // 2 + 1) if keep else (0, 0, 0))


@torch.library.custom_op("mixerzoo::circular_product_backward", mutates_args=())
def product_gradients(kernel: Tensor, kept: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The gradient by x, and where the transform of x was kept, the sum over B of its conjugate times that of dy."""
    dkernel, dx = _empty_gradients(kernel, kept, dy, size)
    for part, transform in _transforms(dy, size, kernel):
        if len(kept):
            dkernel[part] = torch.linalg.vecdot(kept[part], transform, dim=1)  # vecdot conjugates the first
        _write(dx, part, torch.fft.irfft(transform.mul_(kernel[part, None].conj()), size))
    return dkernel, dx


@product_gradients.register_fake
def _empty_gradients(kernel: Tensor, kept: Tensor, dy: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(kernel), torch.empty_like(dy)


def _transforms(x: Tensor, size: int, kernel: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(slice of channels, transform (channels, B, F) of x padded with zeros), a few channels at a time."""
    channels, batch, length = by_channel(x).shape
    step = channels if x.is_cuda else max(FEWEST, CACHED // (batch * size))
    padded = kernel.real.new_zeros(min(step, channels), batch, size)
    for start in range(0, channels, step):
        part = slice(start, start + step)
        rows = padded[: min(step, channels - start)]
        rows[..., :length] = _read(x, part)
        yield part, torch.fft.rfft(rows)


def by_channel(x: Tensor) -> Tensor:
    """x (B, N, D) as (D, B, N)."""
    return x.permute(2, 0, 1)


def _read(x: Tensor, part: slice) -> Tensor:
    """A few channels of x, (channels, B, N). Where channels lie side by side, they are first copied out together: a
    transposition is fast from one contiguous block to another."""
    channels = x[..., part]
    return by_channel(channels.contiguous() if x.stride(-1) == 1 else channels)


def _write(y: Tensor, part: slice, values: Tensor) -> None:
    """Put values (channels, B, S) into a few channels of y (B, N, D), transposed first as in `_read`."""
    channels = values[..., : y.shape[1]].permute(1, 2, 0)  # (B, N, channels)
    y[..., part] = channels.contiguous() if y.stride(-1) == 1 else channels
