"""Begin a run with the parameters of another: fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.assemble import build_model
from experiments.checkpoint import checkpoint_file, differences, read
from experiments.config import Run, plain
from experiments.errors import UserError
from tasks.contract import Task

BODY = ("embedding", "stack")
"""The parts that must agree; a head of another shape begins anew."""


def start_from(model: nn.Module, run: Run, task: Task) -> None:
    """Give the model the parameters that the run `run.start` ended with; {label} and {seed} in it stand for this run's.

    Raises UserError for a run that has none, or another mixer, tokenizer or shape.
    """
    model.load_state_dict(_fitting(model.state_dict(), run, task), strict=False)


def require_start(run: Run, task: Task, folder: Path) -> None:
    """Raise UserError where `start_from` would, so that no folder is claimed in vain; a run in `folder` that has begun
    needs its start no more.
    """
    if run.start is not None and not checkpoint_file(folder).exists():
        with torch.device("meta"):
            _fitting(build_model(run, task).state_dict(), run, task)


def _fitting(new: dict[str, Tensor], run: Run, task: Task) -> dict[str, Tensor]:
    """The parameters of run.start that a model of the parameters `new` can take.

    Raises UserError.
    """
    assert run.start
    folder = Path(run.start.replace("{label}", str(run.label)).replace("{seed}", str(run.seed)))
    path = checkpoint_file(folder)
    if not path.exists():
        raise UserError(f"start={folder} holds no checkpoint; train that run first")
    tensors, metadata = read(path)
    settings = json.loads(metadata["settings"])
    if other := differences(settings["mixer"], plain(run)["mixer"], "mixer"):
        raise UserError(f"start={folder} has another mixer than this run ({other[0]})")
    if settings.get("tokenizer") != task.tokenizer:
        raise UserError(
            f"start={folder} was trained with a tokenizer of {settings.get('tokenizer')}, this run has one of "
            f"{task.tokenizer}; give the same data.tokenizer="
        )
    old = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    for name in sorted({*old, *new}):
        if name.split(".")[0] in BODY:
            here, there = (list(state[name].shape) if name in state else "nothing" for state in (new, old))
            if here != there:
                raise UserError(
                    f"start={folder} has {name} of shape {there}, this run of {here}; make backbone and data agree"
                )
    return {name: tensor for name, tensor in old.items() if name in new and tensor.shape == new[name].shape}
