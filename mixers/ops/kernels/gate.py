# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportArgumentType=false
# (a jitted function has other arguments than its definition)
"""y = SiLU(u) x, element by element, and its gradients: one pass over memory each.

With s = 1 / (1 + exp(-u)):  y = u s x,   dx = dy u s,   du = dy x s (1 + u (1 - s)).
Computed in float32 and rounded once. Either u, x, y and gradients share shape, dtype and storage, which is dense; or u
and x are the halves of rows (..., 2 W), which are contiguous, and so are their gradients.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements a program, at the most."""


@torch.library.custom_op("mixerzoo::silu_gate", mutates_args=())
def gate(u: Tensor, x: Tensor) -> Tensor:
    """y."""
    y = torch.empty_like(u)
    grid, sizes = _sizes(1, u.numel(), u.numel())
    with torch.cuda.device_of(u):
        _gate[grid](u, x, y, **sizes)
    return y


@gate.register_fake
def _like(u: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(u)


@torch.library.custom_op("mixerzoo::silu_gate_halves", mutates_args=())
def gate_halves(halves: Tensor) -> Tensor:
    """y (..., W) of u and x side by side (..., 2 W)."""
    y, width = _half(halves), halves.shape[-1] // 2
    grid, sizes = _sizes(y.numel() // width, width, 2 * width)
    with torch.cuda.device_of(halves):
        _gate[grid](halves, halves[..., width:], y, **sizes)
    return y


@gate_halves.register_fake
def _half(halves: Tensor) -> Tensor:
    return halves.new_empty(*halves.shape[:-1], halves.shape[-1] // 2)


@triton.jit
def _gate(u, x, y, width, stride, blocks, BLOCK: tl.constexpr):
    row, column = _place(blocks, BLOCK)
    inside, place = column < width, row * stride + column
    values = tl.load(u + place, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    gated = values * tl.sigmoid(values) * mixed
    tl.store(y + row * width + column, gated.to(y.dtype.element_ty), mask=inside)


@torch.library.custom_op("mixerzoo::silu_gate_backward", mutates_args=())
def gradients(dy: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """du and dx."""
    du, dx = torch.empty_like(u), torch.empty_like(x)
    grid, sizes = _sizes(1, u.numel(), u.numel())
    with torch.cuda.device_of(u):
        _gradients[grid](dy, u, x, du, dx, **sizes)
    return du, dx


@gradients.register_fake
def _empty_gradients(dy: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(x)


@torch.library.custom_op("mixerzoo::silu_gate_halves_backward", mutates_args=())
def halves_gradients(dy: Tensor, halves: Tensor) -> Tensor:
    """du and dx side by side (..., 2 W)."""
    found, width = torch.empty_like(halves), dy.shape[-1]
    grid, sizes = _sizes(dy.numel() // width, width, 2 * width)
    with torch.cuda.device_of(halves):
        _gradients[grid](dy, halves, halves[..., width:], found, found[..., width:], **sizes)
    return found


@halves_gradients.register_fake
def _empty_halves(dy: Tensor, halves: Tensor) -> Tensor:
    return torch.empty_like(halves)


@triton.jit
def _gradients(dy, u, x, du, dx, width, stride, blocks, BLOCK: tl.constexpr):
    row, column = _place(blocks, BLOCK)
    inside, place = column < width, row * stride + column
    outputs = tl.load(dy + row * width + column, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(u + place, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(values)
    tl.store(dx + place, (outputs * values * s).to(dx.dtype.element_ty), mask=inside)
    dvalues = outputs * mixed * s * (1.0 + values * (1.0 - s))
    tl.store(du + place, dvalues.to(du.dtype.element_ty), mask=inside)


def _sizes(rows: int, width: int, stride: int) -> tuple[tuple[int], dict[str, int]]:
    """The grid and arguments for rows of `width` elements, `stride` apart in u and x and side by side in y."""
    block = min(BLOCK, max(triton.next_power_of_2(width), 32))
    blocks = triton.cdiv(width, block)
    warps = max(block // 256, 1)  # a thread reads 16 bytes at a time
    return (rows * blocks,), {"width": width, "stride": stride, "blocks": blocks, "BLOCK": block, "num_warps": warps}


@triton.jit
def _place(blocks, BLOCK: tl.constexpr):
    """A program's row, and its columns (BLOCK,)."""
    program = tl.program_id(0).to(tl.int64)
    return program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
