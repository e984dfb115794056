"""A linear map whose sums are taken in float64, with the derivatives of the plain one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.ops.precision import without_autocast


def exact_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (..., D) weight (E, D)^T + bias (E,), all of one dtype: as `F.linear`, rounded once to that dtype."""
    return _ExactLinear.apply(x, weight, bias)


class _ExactLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x.double(), weight.double(), bias.double()).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = dy.reshape(-1, dy.shape[-1])
        with without_autocast(dy):
            return dy @ weight, rows.T @ x.reshape(-1, x.shape[-1]), rows.sum(0)
