"""Turn a trained TNN into one that decodes with a constant state: its coefficients become sums of exponentials."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from experiments import checkpoint
from experiments.assemble import build_model, layer_rows, model_mixers
from experiments.coefficients import toeplitz_source
from experiments.config import Run, plain
from experiments.errors import UserError
from experiments.examine import examine, score
from experiments.files import read_json, write_json
from experiments.folders import claim, locked
from experiments.machine import choose_device
from experiments.optimizer import make_optimizer
from experiments.train import identity, load_model
from mixers.ops.exponentials import exact_exponentials, fit_exponentials
from mixers.toeplitz.coefficients import DecayingCoefficients
from tasks.contract import Task

CONVERTED = ("gtu", "gtu_free")
"""The rows whose gate and projections gtu_state_space has too."""


def convert(folder: Path, order: int | None, out: Path | None, console: Console) -> None:
    """Write the run in `folder` anew as gtu_state_space with `order` exponentials a channel; None: exact (ETSC).

    Prints how far its coefficients are off up to the training length, and the scores before and after. Exact is up to
    the rounding of float32 phases, about 1e-7 N; an order above (N + 1) / 2 is lowered to it. Raises UserError for a
    run that is unfinished, bidirectional, or of other rows.
    """
    run, task, model = load_model(folder)
    finished = read_json(folder / "result.json") or {}
    _require_convertible(folder, run, task, finished)
    suffix = "exact" if order is None else f"order{order}"
    new = _settings(run, task, order, suffix)
    out = out or folder.with_name(f"{folder.name}-{suffix}")
    with locked(out, console.print):
        claim(out, plain(new))
        converted = build_model(new, task).to(choose_device(run.train)).eval()
        errors = _transfer(model, converted, task.length, order, console)
        progress = {"step": finished["tokens"] // (run.train.batch * task.length), "seconds": finished["seconds"]}
        checkpoint.save(out, {"model": converted}, make_optimizer(converted, new.train), progress, identity(new, task))
        kept = {key: finished[key] for key in ("tokens", "seconds", "tokens_per_second", "peak_memory_bytes")}
        note = {"converted": {"from": folder.name, "relative_errors": errors}}
        result = {"status": "done", **examine(new, task, converted), **kept, **note}
        write_json(out / "result.json", result)
    before = score(run, task, model, test=True)[task.metric]
    _print(errors, before, result, console)
    console.print(f"written to {out}", soft_wrap=True)


def _require_convertible(folder: Path, run: Run, task: Task, finished: dict[str, Any]) -> None:
    if finished.get("status") != "done":
        raise UserError(f"{folder} is not finished; train the run first")
    if not task.causal or not set(layer_rows(run)) <= set(CONVERTED):
        kind = f"{'causal' if task.causal else 'bidirectional'} run of {run.mixer['name']}"
        raise UserError(f"{folder} is a {kind}; convert takes causal runs of {' or '.join(CONVERTED)}")


def _settings(run: Run, task: Task, order: int | None, suffix: str) -> Run:
    """The run's settings with every row replaced."""
    exponentials = _limit(task.length) if order is None else min(order, _limit(task.length))
    kept = {key: value for key, value in run.mixer.items() if key in ("expand", "activation")}
    mixer = {"name": "gtu_state_space", **kept, "order": exponentials}
    trained = dataclasses.replace(run.train, ema=0.0)  # what is converted is the average already
    return dataclasses.replace(run, mixer=mixer, label=f"{run.label}-{suffix}", train=trained)


def _limit(length: int) -> int:
    """So many exponentials are exact up to N; more would be empty."""
    return (length + 1) // 2


def _transfer(model: nn.Module, converted: nn.Module, length: int, order: int | None, console: Console) -> list[float]:
    """Give the converted model the trained parameters; returns each layer's relative error of the coefficients."""
    sources = {name: source for name, mixer in model_mixers(model) if (source := toeplitz_source(mixer)) is not None}
    known = {key: value for key, value in model.state_dict().items() if ".operator." not in key}
    converted.load_state_dict({**converted.state_dict(), **known})
    targets: dict[str, Any] = dict(model_mixers(converted))
    errors = []
    for name, source in track(sources.items(), "converting", console=console, transient=True):
        target = targets[name].operator.coefficients
        with torch.no_grad():
            wanted = source(length).double()
            target.assign(*_exponentials(source, length, order), wanted[0])
            errors.append(((target(length) - wanted).norm() / wanted.norm()).item())
    return errors


def _exponentials(source: DecayingCoefficients, length: int, order: int | None) -> tuple[Tensor, Tensor]:
    # where every lag is a parameter, nothing is smooth enough for fewer exponentials than lags to follow
    exact = order is None or (order >= _limit(length) and source.longest is not None)
    if order is not None and not exact:
        return fit_exponentials(source(length), min(order, _limit(length)))
    rate, weight = exact_exponentials(source.undecayed(length))  # ETSC: the decay joins the poles
    return rate - source.decay.rates(torch.float64)[:, None], weight


def _print(errors: list[float], before: float, result: dict[str, Any], console: Console) -> None:
    after, unit = result[result["metric"]], result["metric"].replace("_", " ")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("", *(f"layer {index + 1}" for index in range(len(errors)))):
        table.add_column(header, justify="right" if header else "left")
    table.add_row(
        f"relative error of the coefficients, lags 0 to {result['length'] - 1}", *(f"{e:.1e}" for e in errors)
    )
    console.print(table)
    console.print(f"{unit}: {before:.4f} before, {after:.4f} after ({after - before:+.4f})")
    console.print(f"state: {result['state_bytes']:,} bytes a sequence, at every position")
