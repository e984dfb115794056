"""How fast runs train, measured in turns so that all meet the same machine."""

import statistics
import time
from pathlib import Path

import torch

from experiments.config import Run
from experiments.machine import prepare
from experiments.train import Trainer
from tasks.contract import Task

WARM_UP, TURNS = 3, 15


class Bench:
    """Steps of a run's own training, from the start, timed; nothing of it is saved."""

    def __init__(self, run: Run, task: Task):
        prepare(run.train)
        self.label = str(run.label)
        self._trainer = Trainer(run, task, Path("/nonexistent"))
        self._seconds: list[float] = []

    def turn(self) -> None:
        """One training step."""
        self._wait()
        start = time.perf_counter()
        self._trainer.train_step()
        self._wait()
        self._seconds.append(time.perf_counter() - start)

    def tokens_per_second(self) -> float:
        """Tokens a second of the median step after the warm-up."""
        return self._trainer.tokens_a_step / statistics.median(self._seconds[WARM_UP:])

    def _wait(self) -> None:
        if self._trainer.device.type == "cuda":
            torch.cuda.synchronize()
