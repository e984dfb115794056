# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportArgumentType=false
# (a jitted function has other arguments than its definition)
"""y = SiLU(u) x, element by element, and its gradients: one pass over memory each.

With s = 1 / (1 + exp(-u)):  y = u s x,   dx = dy u s,   du = dy x s (1 + u (1 - s)).
Computed in float32 and rounded once. u, x, y and gradients share shape, dtype and storage, which is dense.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements a program."""


@torch.library.custom_op("mixerzoo::silu_gate", mutates_args=())
def gate(u: Tensor, x: Tensor) -> Tensor:
    """y."""
    y = torch.empty_like(u)
    with torch.cuda.device_of(u):
        _gate[(triton.cdiv(u.numel(), BLOCK),)](u, x, y, u.numel(), BLOCK=BLOCK)
    return y


@gate.register_fake
def _like(u: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(u)


@triton.jit
def _gate(u, x, y, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    values = tl.load(u + place, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, (values * tl.sigmoid(values) * mixed).to(y.dtype.element_ty), mask=inside)


@torch.library.custom_op("mixerzoo::silu_gate_backward", mutates_args=())
def gradients(dy: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """du and dx."""
    du, dx = torch.empty_like(u), torch.empty_like(x)
    with torch.cuda.device_of(u):
        _gradients[(triton.cdiv(u.numel(), BLOCK),)](dy, u, x, du, dx, u.numel(), BLOCK=BLOCK)
    return du, dx


@gradients.register_fake
def _empty_gradients(dy: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(x)


@triton.jit
def _gradients(dy, u, x, du, dx, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    outputs = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(u + place, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(values)
    tl.store(dx + place, (outputs * values * s).to(dx.dtype.element_ty), mask=inside)
    dvalues = outputs * mixed * s * (1.0 + values * (1.0 - s))
    tl.store(du + place, dvalues.to(du.dtype.element_ty), mask=inside)
