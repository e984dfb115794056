"""Train one run. Killed at any moment and started again, it ends with the same parameters, bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import tasks
from backbones.seeding import derive
from experiments import checkpoint
from experiments.assemble import build_model, model_mixers
from experiments.average import make_ema
from experiments.config import Run, plain, restore
from experiments.errors import Diverged, UserError, user_errors
from experiments.examine import examine, score
from experiments.files import append_line, read_json, read_lines, write_json, write_text
from experiments.folders import saved_settings
from experiments.machine import autocast, choose_device, peak_memory, prepare, reset_peak_memory
from experiments.optimizer import clip_gradient, make_optimizer, schedule, set_learning_rate
from experiments.start import start_from
from tasks.contract import Batch, Task

Progress = Callable[[int, int, float], None]
"""Called with tokens done, tokens in all, and the training loss in nats."""


def load_settings(folder: Path) -> Run:
    """The settings that a run's folder holds.

    Raises UserError where the folder holds no run.
    """
    content = saved_settings(folder)
    if content is None:
        raise UserError(f"{folder} holds no run (no config.yaml)")
    if "mixer" not in content:
        raise UserError(f"{folder} holds no single run; name a folder such as {folder}/<mixer>-<seed>")
    return restore(Run, content)


def load_task(run: Run) -> Task:
    """The run's task with its data.

    Raises UserError where the data cannot be had.
    """
    with user_errors():
        return tasks.load(run.task, run.data)  # pyright: ignore[reportAttributeAccessIssue]  the task's section


def identity(run: Run, task: Task) -> dict[str, Any]:
    """What a checkpoint belongs to: the settings, the data and the meaning of its tokens."""
    return {**plain(run), "data_hash": task.data_hash, "tokenizer": task.tokenizer}


def load_model(folder: Path) -> tuple[Run, Task, nn.Module]:
    """A run: its settings, its task, and the model of its checkpoint, averaged where it was, in eval mode."""
    run = load_settings(folder)
    task = load_task(run)
    model = build_model(run, task)
    part = "ema" if run.train.ema else "model"
    if checkpoint.load(folder, model, identity(run, task), part=part) is None:
        raise UserError(f"{folder} holds no checkpoint; train the run first")
    return run, task, model.to(choose_device(run.train)).eval()


def train(folder: Path, progress: Progress = lambda done, total, loss: None) -> dict[str, Any]:
    """Train the run that `folder` describes, or go on with it, and return its result.

    Writes metrics.jsonl, checkpoint/ and, at the end, result.json. Raises Diverged, and UserError for bad input.
    """
    result = read_json(folder / "result.json")
    if result and result["status"] == "done":
        return result
    run = load_settings(folder)
    prepare(run.train)
    task = load_task(run)
    trainer = Trainer(run, task, folder)
    trainer.fit(progress)
    result = trainer.result()
    write_json(folder / "result.json", result)
    return result


class Trainer:
    """The state of one run in training."""

    def __init__(self, run: Run, task: Task, folder: Path):
        self.run, self.task, self.folder = run, task, folder
        self.device = choose_device(run.train)
        self.settings = identity(run, task)
        reset_peak_memory(self.device)
        self.model = build_model(run, task).to(self.device)
        self.ema = make_ema(self.model, run.train)
        self.optimizer = make_optimizer(self.model, run.train)
        self.compiled = cast("nn.Module", torch.compile(self.model)) if run.train.compile else self.model
        self.tokens_a_step = run.train.batch * task.length
        self.steps = max(1, run.train.tokens // self.tokens_a_step)
        torch.manual_seed(derive(run.seed, "training"))
        progress = checkpoint.load(folder, self.model, self.settings, self.optimizer)
        if progress is None and run.start is not None:
            start_from(self.model, run, task)
        if self.ema:
            checkpoint.load(folder, self.ema.module, self.settings, part="ema")
        self.step, self.seconds = (progress["step"], progress["seconds"]) if progress else (0, 0.0)
        self._drop_records_after(self.step)

    def fit(self, progress: Progress) -> None:
        """Train until the budget is spent."""
        train = self.run.train
        validated_at = {round(self.steps * part / train.validations) for part in range(1, train.validations + 1)}
        if self.step == 0 and not read_lines(self._metrics):
            self._validate({})
        saved = time.monotonic()
        while self.step < self.steps:
            start = time.perf_counter()
            record = self.train_step()
            self.seconds += time.perf_counter() - start
            progress(self.step * self.tokens_a_step, self.steps * self.tokens_a_step, record["train_loss"])
            if self.step in validated_at:
                self._validate(record)
            if self.step == self.steps or time.monotonic() - saved >= train.checkpoint_seconds:
                self._save()
                saved = time.monotonic()

    def train_step(self) -> dict[str, float]:
        train = self.run.train
        if self.step and self.step % train.redraw == 0:
            generator = torch.Generator().manual_seed(derive(self.run.seed, f"redraw.{self.step}"))
            for _, mixer in model_mixers(self.model):
                mixer.redraw(generator)
        rate = set_learning_rate(self.optimizer, train, schedule(train, self.step, self.steps))
        self.compiled.train()
        with user_errors():
            batch = self.task.batch(train.batch, seed=self.run.seed, step=self.step)
        loss = self._backward(batch)
        norm = clip_gradient(self.model, train)
        self._require_finite(loss, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema:
            self.ema.update(self.model, self.step)
        return {"train_loss": loss, "gradient_norm": norm.item(), "learning_rate": rate}

    def _backward(self, batch: Batch) -> float:
        """Accumulate the gradient of the batch's mean loss, part by part."""
        total, size = 0.0, len(batch[0])
        part_size = -(-size // self.run.train.accumulate)
        for start in range(0, size, part_size):
            part = tuple(tensor[start : start + part_size].to(self.device) for tensor in batch)
            with autocast(self.run.train, self.device):
                loss = self.task.loss(self.compiled, part) * (len(part[0]) / size)
            loss.backward()
            total += loss.item()
        return total

    def _require_finite(self, loss: float, norm: Tensor) -> None:
        if not (torch.isfinite(torch.tensor(loss)) and torch.isfinite(norm)):
            what = "gradient" if torch.isfinite(torch.tensor(loss)) else "loss"
            raise Diverged(f"the {what} is not finite after {self.step * self.tokens_a_step:,} tokens")

    def _validate(self, record: dict[str, float]) -> None:
        metrics = score(self.run, self.task, self.evaluated, test=False)
        place = {"step": self.step, "tokens": self.step * self.tokens_a_step, "seconds": round(self.seconds, 3)}
        append_line(self._metrics, {**place, **record, **metrics})

    def _save(self) -> None:
        progress = {"step": self.step, "seconds": self.seconds}
        checkpoint.save(self.folder, self._modules(), self.optimizer, progress, self.settings)

    @property
    def evaluated(self) -> nn.Module:
        """The model, or the average of its course where the settings ask for that."""
        return self.ema.module if self.ema else self.model

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "ema": self.ema.module} if self.ema else {"model": self.model}

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _drop_records_after(self, step: int) -> None:
        """Leave out what was recorded after the checkpoint: it will be recorded again."""
        records = [record for record in read_lines(self._metrics) if record["step"] <= step]
        if self._metrics.exists():
            write_text(self._metrics, "".join(json.dumps(record) + "\n" for record in records))

    def result(self) -> dict[str, Any]:
        """What the run achieved and what it cost."""
        memory = peak_memory(self.device)
        return {
            "status": "done",
            **examine(self.run, self.task, self.evaluated),
            "tokens_per_second": self.steps * self.tokens_a_step / self.seconds,
            "peak_memory_bytes": memory,
            "seconds": self.seconds,
            "tokens": self.steps * self.tokens_a_step,
        }
