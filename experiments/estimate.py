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
    """Tokens a second of a resolved run's training steps, and with how many sequences at once they were measured: 2, 4,
    8, … up to those that the run computes at once, until a step takes SECONDS or the memory ends.

    A batch has two at the least where the run's has: images are mixed in pairs.
    """
    prepare(run.train)
    trainer = Trainer(run, task, Path("/nonexistent"))
    limit = -(-run.train.batch // run.train.accumulate)
    sequences, speed, measured = min(2, limit), 0.0, 1
    parts = 2 if limit == 1 < run.train.batch else 1
    while True:
        batch = parts * sequences
        trainer.run = dataclasses.replace(run, train=dataclasses.replace(run.train, batch=batch, accumulate=parts))
        try:
            seconds = min(_step(trainer) for _ in range(2))
        except torch.OutOfMemoryError:
            break
        speed, measured = batch * task.length / seconds, sequences
        if seconds > SECONDS or 2 * sequences > limit:
            break
        sequences *= 2
    return speed, measured


def _step(trainer: Trainer) -> float:
    start = time.perf_counter()
    trainer.train_step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
