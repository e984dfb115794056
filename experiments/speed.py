"""How fast runs train, and how much memory that takes."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import multiprocessing
import os
import signal
import statistics
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.assemble import layer_rows, resolve
from experiments.config import Run, Speed, plain, restore
from experiments.errors import UserError, one_line, user_errors
from experiments.files import write_text
from experiments.machine import choose_device, environment, is_out_of_memory, peak_rise, prepare
from experiments.plan import labelled_mixers, length_list
from experiments.train import Trainer, load_task
from experiments.worker import end_with_parent
from mixers.registry import card, names
from tasks.contract import Task

WARM_UP, TURNS = 3, 15

SECONDS = 10.0
"""After so long, a cell of `mixerzoo speed` takes no further step, but it takes two at the least."""

OUT_OF_MEMORY = "out of memory"


class Bench:
    """Steps of a run's own training, from the start, timed; nothing of it is saved."""

    def __init__(self, run: Run, task: Task):
        prepare(run.train)
        self.label = str(run.label)
        self._trainer = Trainer(run, copy.copy(task), Path("/nonexistent"))  # a task may read its batches ahead
        self.seconds: list[float] = []

    def turn(self) -> None:
        """One training step."""
        self._wait()
        start = time.perf_counter()
        self._trainer.train_step()
        self._wait()
        self.seconds.append(time.perf_counter() - start)

    def steps_per_second(self) -> float:
        """Of the median step after the warm-up, which is all but the last step where there were few."""
        return 1 / statistics.median(self.seconds[min(WARM_UP, len(self.seconds) - 1) :])

    def tokens_per_second(self) -> float:
        """Tokens a second of the same step."""
        return self._trainer.tokens_a_step * self.steps_per_second()

    def _wait(self) -> None:
        if self._trainer.device.type == "cuda":
            torch.cuda.synchronize()


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one mixer does at one length, or why it does nothing."""

    mixer: str
    length: int
    steps_per_second: float | None = None
    tokens_per_second: float | None = None
    megabytes: float | None = None  # the peak above what the process held before; on a CPU with libraries' first use
    reason: str = ""

    def text(self) -> str:
        """The cell as it is printed."""
        if self.reason:
            return self.reason
        memory = "" if self.megabytes is None else f", {self.megabytes:,.0f} MB"
        return f"{self.steps_per_second:.3g}/s{memory}"


def speed(settings: Speed, console: Console) -> None:
    """Time every mixer at every length, each in a process of its own, print the table, and write it to settings.out.

    Raises UserError for mixers and lengths that are none, and for a task whose length is not a setting.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in a comparison's workers
    lengths = length_list(settings.lengths)
    contents = _contents(settings)
    cells: list[Cell] = []
    todo = [(label, content, length) for label, content in contents.items() for length in lengths]
    for label, content, length in track(todo, "timing", console=console, transient=True):
        data = {**content["data"], "length": length}
        cells.append(Cell(label, length, **_apart({**content, "data": data})))
        if settings.out:
            with user_errors():
                write_text(Path(settings.out), _csv(cells))
    device = choose_device(settings.train)
    train, backbone = settings.train, settings.backbone
    console.print(
        f"{settings.task}, batches of {train.batch}, dim {backbone.dim}, depth {backbone.depth}, on "
        f"{environment(device)['device']}: training steps a second, and the peak of memory",
        soft_wrap=True,
    )
    console.print(_table(cells, lengths))
    if settings.out:
        console.print(f"written to {settings.out}", soft_wrap=True)


def _contents(settings: Speed) -> dict[str, dict[str, Any]]:
    """{label: settings of the run}, the mixers' names checked."""
    sections = plain(settings)
    if "length" not in sections["data"]:
        raise UserError(f"task={settings.task} has no data.length to be set; choose another, such as task=python")
    kept = {key: value for key, value in sections.items() if key in Run.__dataclass_fields__ or key == "data"}
    with user_errors():
        every = names(registry=settings.registry)
    contents = {}
    for label, mixer in labelled_mixers(every if settings.mixers is None else settings.mixers):
        content = {**kept, "label": label, "mixer": mixer, "out": None}
        with user_errors():
            for name in layer_rows(restore(Run, content)):
                card(name, registry=settings.registry)
        contents[label or mixer["name"]] = content
    return contents


def _apart(content: dict[str, Any]) -> dict[str, Any]:
    """What `_measure` finds, in a process that knows only this cell: what it holds at the peak is the cell's own, and
    where memory does not suffice, nothing else ends.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(content, sender), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        killed = process.exitcode == -signal.SIGKILL  # so ends whom the system takes the memory away from
        return {"reason": OUT_OF_MEMORY if killed else f"its process ended with code {process.exitcode}"}
    finally:
        process.join()


def _serve(content: dict[str, Any], sender: Connection) -> None:
    """Send what the cell achieves, or why it does not."""
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    with suppress(OSError):  # Linux: where memory runs out, this process is the one to end
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        sender.send(_measure(restore(Run, content)))
    except UserError as error:
        sender.send({"reason": one_line(error)})
    except Exception as error:  # a mixer may fail in any way, and the others go on
        reason = OUT_OF_MEMORY if is_out_of_memory(error) else f"{type(error).__name__}: {one_line(error)}"
        sender.send({"reason": reason})


def _measure(run: Run) -> dict[str, Any]:
    task = load_task(run)
    run = resolve(run, task.causal)
    benches: list[Bench] = []

    def train() -> None:
        bench = Bench(run, task)
        benches.append(bench)
        while len(bench.seconds) < WARM_UP + TURNS and (len(bench.seconds) < 2 or sum(bench.seconds) < SECONDS):
            bench.turn()

    rise = peak_rise(train, choose_device(run.train))
    return {
        "steps_per_second": benches[0].steps_per_second(),
        "tokens_per_second": benches[0].tokens_per_second(),
        "megabytes": None if rise is None else rise / 1e6,
    }


def _table(cells: list[Cell], lengths: list[int]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("mixer", no_wrap=True)
    for length in lengths:
        table.add_column(f"{length:,}", justify="right", overflow="fold")
    for label in dict.fromkeys(cell.mixer for cell in cells):
        table.add_row(label, *(cell.text() for cell in cells if cell.mixer == label))
    return table


def _csv(cells: list[Cell]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Cell)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(cell) for cell in cells)
    return text.getvalue()
