"""Begin a run with the parameters of another: fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

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
    new = model.state_dict()
    for name in sorted({*old, *new}):
        if name.split(".")[0] in BODY:
            here, there = (list(state[name].shape) if name in state else "nothing" for state in (new, old))
            if here != there:
                raise UserError(
                    f"start={folder} has {name} of shape {there}, this run of {here}; make backbone and data agree"
                )
    fitting = {name: tensor for name, tensor in old.items() if name in new and tensor.shape == new[name].shape}
    model.load_state_dict(fitting, strict=False)
