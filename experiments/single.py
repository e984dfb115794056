"""Train one run by hand, in this process."""

import dataclasses
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.assemble import build_model, resolve
from experiments.config import Run, plain
from experiments.errors import Diverged, UserError
from experiments.folders import claim, locked, saved_threads
from experiments.machine import settle
from experiments.start import require_start
from experiments.train import load_task, train


def train_one(run: Run, console: Console) -> None:
    """Train the run into run.out (runs/<task>-<mixer>-<seed>), or go on with it.

    Raises UserError for bad input and for a run that diverges.
    """
    task = load_task(run)
    run = resolve(run, task.causal)
    build_model(run, task)  # what the mixer refuses shows now, before a folder is taken
    folder = Path(run.out or f"runs/{run.task.replace('/', '-')}-{run.label}-{run.seed}")
    threads = saved_threads(folder) or torch.get_num_threads()
    run = dataclasses.replace(run, train=settle(run.train, threads=threads), out=None)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    ]
    require_start(run, task, folder)
    with locked(folder, console.print):
        claim(folder, plain(run))
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(str(run.label), total=None)

            def update(done: int, total: int, loss: float) -> None:
                progress.update(bar, completed=done, total=total, description=f"{run.label}, loss {loss:.3f}")

            try:
                result = train(folder, update)
            except Diverged as error:
                raise UserError(f"{folder}: {error}; try a lower train.learning_rate") from error
    score = result[task.metric]
    console.print(
        f"{task.metric.replace('_', ' ')} {score:.4f} after {result['tokens']:,} tokens; see {folder}", soft_wrap=True
    )
