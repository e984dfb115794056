"""All that a run needs to go on: parameters, optimizer, random state and place, in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from experiments.errors import UserError
from tasks.files import replacing


def checkpoint_file(folder: Path) -> Path:
    """Where a run's folder holds its checkpoint."""
    return folder / "checkpoint" / "training.safetensors"


def save(
    folder: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Replace the run's checkpoint. One file holds all of it, so that it is whole or the one before.

    `modules` is the model, and its moving average where there is one, as `ema`.
    """
    tensors = {
        f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in module.state_dict().items()
    }
    state = optimizer.state_dict()["state"]
    tensors |= {f"optimizer.{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    metadata = {"progress": json.dumps(progress), "settings": json.dumps(settings)}
    whole = serialise({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with replacing(checkpoint_file(folder)) as part:
        part.write_bytes(whole)


def load(
    folder: Path,
    model: nn.Module,
    settings: dict[str, Any],
    optimizer: torch.optim.Optimizer | None = None,
    *,
    part: str = "model",
) -> dict[str, Any] | None:
    """Load a part of the run's checkpoint into the model (and optimizer and random state); returns its progress.

    None where there is none. Raises UserError for a file that is damaged or of other settings.
    """
    path = checkpoint_file(folder)
    if not path.exists():
        return None
    tensors, metadata = read(path)
    other = differences(json.loads(metadata["settings"]), settings)
    if other:
        raise UserError(f"{path} belongs to other settings ({'; '.join(other[:3])}); remove it or restore config.yaml")
    try:
        model.load_state_dict(_below(tensors, f"{part}."))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the model: {str(error).splitlines()[-1].strip()}") from error
    if optimizer is not None:
        _load_optimizer(optimizer, _below(tensors, "optimizer."))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
    return json.loads(metadata["progress"])


def differences(one: Any, other: Any, key: str = "") -> list[str]:
    """Where two nested settings differ, each as `key: value and value`."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for name in sorted({*one, *other}, key=str):
            found += differences(one.get(name), other.get(name), f"{key}.{name}".lstrip("."))
        return found
    return [] if one == other else [f"{key}: {one} and {other}"]


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a checkpoint, and its progress and settings as JSON.

    Raises UserError for a damaged file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to start this run anew") from error
    if not {"progress", "settings"} <= set(metadata):
        raise UserError(f"{path} is no checkpoint of mixerzoo; remove it to start this run anew")
    return tensors, metadata


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
