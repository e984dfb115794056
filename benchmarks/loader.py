"""Is the loader the bottleneck? Tokens a second of a task's batches beside those of the model's training steps.

    python benchmarks/loader.py task=wikitext103 data.path=FOLDER mixer=gtu

takes the settings of `mixerzoo train`.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch

from experiments.assemble import resolve
from experiments.config import Run, load
from experiments.estimate import training_speed
from experiments.machine import settle
from experiments.train import load_task
from tasks.contract import Task

SECONDS = 3.0


def loading_speed(run: Run, task: Task) -> float:
    """Tokens a second of the run's batches, after the first, which may sort an epoch."""
    task.batch(run.train.batch, seed=0, step=0)
    step, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        step += 1
        task.batch(run.train.batch, seed=0, step=step)
    return step * run.train.batch * task.length / (time.perf_counter() - start)


def main() -> None:
    """Print both speeds and their ratio."""
    run = load(Run, sys.argv[1:])
    task = load_task(run)
    run = resolve(run, task.causal)
    loaded = loading_speed(run, task)
    trained, sequences = training_speed(settled(run), task)
    print(f"{run.task}, {run.label}: batches {loaded:,.0f} tokens/s, training {trained:,.0f} tokens/s", end=" ")
    print(f"({sequences} sequences a step): the loader is {loaded / trained:,.0f} times as fast")


def settled(run: Run) -> Run:
    """The run with the machine's device, precision and threads."""
    run.train = settle(run.train, threads=torch.get_num_threads())
    return run


if __name__ == "__main__":
    main()
