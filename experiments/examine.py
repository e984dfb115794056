"""What a trained model achieves and what it costs, apart from the time that training took."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from experiments import measure
from experiments.assemble import count_parameters
from experiments.coefficients import coefficients
from experiments.config import Run
from experiments.dependence import dependence
from experiments.errors import Diverged, UserError
from experiments.machine import autocast, choose_device, environment
from tasks.contract import DataError, Task

LENGTHS = 5
"""How many lengths a model is scored at, each twice the one before, from the training length on."""


def score(run: Run, task: Task, model: nn.Module, *, test: bool) -> dict[str, float]:
    """The task's metrics, the model left in eval mode.

    Raises Diverged where they are not finite, and UserError for data that cannot be read.
    """
    model.eval()
    try:
        with autocast(run.train, choose_device(run.train)):
            metrics = task.evaluate(model, test=test)
    except DataError as error:
        raise UserError(str(error)) from error
    if not all(map(math.isfinite, metrics.values())):
        raise Diverged("the score is not finite")
    return metrics


def examine(run: Run, task: Task, model: nn.Module) -> dict[str, Any]:
    """All that a result holds of the model itself: scores, costs, and the data of its pictures."""
    metrics = score(run, task, model, test=True)
    with autocast(run.train, choose_device(run.train)):
        by_length = task.extrapolate(model, [task.length * 2**power for power in range(LENGTHS)])
    return {
        "label": run.label,
        "seed": run.seed,
        **metrics,
        "metric": task.metric,
        "length": task.length,
        "parameters": count_parameters(model),
        "flops_per_token": measure.flops_per_token(task, model, run.train.batch),
        "state_bytes": measure.state_bytes(task, model),
        "data_hash": task.data_hash,
        "backends": measure.backends(run, task, model),
        "environment": environment(choose_device(run.train)),
        "extrapolation": {str(length): value for length, value in by_length.items()},
        "dependence": dependence(task, model),
        "toeplitz": coefficients(model, task.length, causal=task.causal),
    }
