"""The pages that `mixerzoo show` prints."""

import dataclasses
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

import tasks
from experiments.config import Run, load, plain, restore
from experiments.errors import UserError, user_errors
from experiments.files import read_json
from experiments.folders import saved_settings
from experiments.summary import read
from mixers.registry import card

LONG = ("metric", "length", "extrapolation", "dependence", "toeplitz")
"""Results that stand on the page already, or that the report draws."""

ENOUGH = {"train": 64, "validation": 8, "test": 8}
"""Examples to measure a speed with: all those of Path-X take half an hour to be drawn."""


def mixer(name: str, console: Console, *, registry: str | None = None) -> None:
    """One row of the registry."""
    from experiments.assemble import keywords
    from mixers.registry import load_class

    row = card(name, registry=registry)
    with user_errors():
        mixer_class = load_class(row.target)
    table = _table()
    for key in ("about", "family", "paper", "target", "claims", "needs", "block", "position", "time", "state"):
        value = getattr(row, key)
        table.add_row(key, ", ".join(value) if isinstance(value, tuple) else str(value))
    table.add_row("keywords", ", ".join(f"{key}={value}" for key, value in keywords(row).items()))
    console.print(table)
    console.print((mixer_class.__doc__ or "").strip(), markup=False, highlight=False)


def task(name: str, settings: list[str], console: Console) -> None:
    """A task's recipe, what its data are, and how long a run of these settings would take on this machine."""
    run = load(Run, [f"task={name}", *settings])
    console.print(tasks.recipe(name).read_text().splitlines()[0], style="dim", markup=False)
    shown = {key: plain(run)[key] for key in ("task", "data", "backbone", "train")}
    console.print(yaml.safe_dump(shown, sort_keys=False).rstrip(), markup=False)
    try:
        console.print(_estimate(run), markup=False, soft_wrap=True)
    except UserError as error:
        console.print(f"no estimate: {error}", markup=False, soft_wrap=True)


def _with_few_examples(run: Run) -> tuple[Run, str]:
    """The run with ENOUGH examples where its task draws them by rules, and how many it would draw; "" elsewhere."""
    content = plain(run)
    data = content["data"]
    if not ENOUGH.keys() <= data.keys() or data.get("path"):
        return run, ""
    few = {key: min(data[key], count) for key, count in ENOUGH.items()}
    note = f"{sum(data[key] for key in ENOUGH):,} examples by the task's rules, drawn when the first run begins"
    return restore(Run, {**content, "data": {**data, **few}}), note


def _estimate(run: Run) -> str:
    import torch

    from experiments.assemble import resolve
    from experiments.estimate import training_speed
    from experiments.machine import settle
    from experiments.train import load_task

    run, note = _with_few_examples(run)
    found = load_task(run)
    run = resolve(dataclasses.replace(run, start=None), found.causal)
    run = dataclasses.replace(run, train=settle(run.train, threads=torch.get_num_threads()))
    speed, sequences = training_speed(run, found)
    steps = max(1, run.train.tokens // (run.train.batch * found.length))
    seconds = steps * run.train.batch * found.length / speed
    time = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    return (
        f"data: {note or found.data_note}\n"
        f"one run of {run.label} here: about {time} of training ({steps:,} steps, {speed:,.0f} tokens/s measured with "
        f"{sequences} sequence{'s' * (sequences != 1)} a step on {run.train.device}, threads: {run.train.threads})"
    )


def folder(path: Path, console: Console) -> None:
    """A run with its settings and results, or a comparison with its verdict and table."""
    settings = saved_settings(path) or {}
    if "mixers" in settings:
        summary = read(path)
        for sentence in [*summary.verdicts(), *summary.failures()]:
            console.print(sentence, markup=False)
        console.print(summary.table().rstrip(), markup=False, soft_wrap=True)
        return
    console.print(yaml.safe_dump(settings, sort_keys=False).rstrip(), markup=False)
    result = read_json(path / "result.json")
    if result is None:
        console.print("not finished yet")
        return
    table = _table()
    for key, value in result.items():
        if key not in LONG:
            table.add_row(key, str(value))
    console.print(table)
    if result.get("toeplitz"):
        from experiments.toeplitz_plots import write_run

        picture = path / "toeplitz.png"
        unit = result["metric"].replace("_", " ")
        length, label = result["length"], result["label"]
        write_run(picture, label, result["toeplitz"], length, result["extrapolation"], unit)
        console.print(f"Toeplitz matrices and coefficients: {picture}", soft_wrap=True)


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table
