"""The moving average of a model's parameters over its training, by timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from experiments.config import Train

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


def make_ema(model: nn.Module, train: Train) -> ModelEmaV3 | None:
    """The average with decay train.ema, None where that is 0.

    Its decay grows with the steps, 1 - step^(-2/3) up to train.ema, so that a short run's average has forgotten
    the initial parameters too. Buffers, such as random features, are the model's own.
    """
    if not train.ema:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=train.ema, use_warmup=True, exclude_buffers=True)
