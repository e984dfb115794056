"""How long a run would take, before it starts."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from experiments.config import Run
from experiments.machine import prepare
from experiments.train import Trainer
from tasks.contract import Task

SECONDS = 1.0
"""A step of this length is long enough to be measured."""


def training_speed(run: Run, task: Task) -> tuple[float, int]:
    """Tokens a second of a resolved run's training steps, and with how many sequences they were measured: 1, 2, 4, …
    up to those that the run computes at once, until a step takes SECONDS or the memory ends.
    """
    prepare(run.train)
    trainer = Trainer(run, task, Path("/nonexistent"))
    limit = -(-run.train.batch // run.train.accumulate)
    sequences, speed, measured = 1, 0.0, 1
    while True:
        trainer.run = dataclasses.replace(run, train=dataclasses.replace(run.train, batch=sequences, accumulate=1))
        try:
            seconds = min(_step(trainer) for _ in range(2))
        except torch.OutOfMemoryError:
            break
        speed, measured = sequences * task.length / seconds, sequences
        if seconds > SECONDS or sequences == limit:
            break
        sequences = min(2 * sequences, limit)
    return speed, measured


def _step(trainer: Trainer) -> float:
    start = time.perf_counter()
    trainer.train_step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
