"""Run a comparison: every mixer with every seed, in worker processes, and what they cost."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import tasks
from experiments.config import Comparison, Run, plain
from experiments.errors import UserError, one_line, user_errors
from experiments.files import read_json, write_json
from experiments.folders import claim, locked, saved_threads
from experiments.plan import fix_machine, folder_name, plan
from experiments.speed import TURNS, WARM_UP, Bench
from experiments.start import require_start
from experiments.worker import mark_failed
from tasks.contract import Task


def compare(settings: Comparison, console: Console) -> Path:
    """Run or continue the comparison in `settings.out`; returns the path of its report.

    Raises UserError for bad input, and for a folder that holds something else.
    """
    out = Path(settings.out)
    if settings.train.threads is None:
        settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, threads=saved_threads(out)))
    settings = fix_machine(settings)
    with user_errors():
        task = tasks.load(settings.task, settings.data)  # pyright: ignore[reportAttributeAccessIssue]
    runs = plan(settings, task)
    for run in runs:
        require_start(run, task, out / folder_name(run))
    from experiments import report  # before anything is trained: it needs libraries of its own

    with locked(out, console.print) as lock:
        claim(out, plain(settings), loose=("workers", "out"))
        write_json(out / "task.json", _facts(runs, task))
        folders = [out / folder_name(run) for run in runs]
        for run, folder in zip(runs, folders, strict=True):
            folder.mkdir(exist_ok=True)
            claim(folder, plain(run))
        _train_all(folders, settings, console, lock)
        _measure_speed(out, runs, task, console)
        if read_json(out / "baselines.json") is None:
            write_json(
                out / "baselines.json", {"test": task.baselines(test=True), "validation": task.baselines(test=False)}
            )
        return report.write(out)


def _facts(runs: list[Run], task: Task) -> dict[str, Any]:
    """What a report needs to know of the task, so that it can be written without the data."""
    return {
        "length": task.length,
        "labels": list(dict.fromkeys(run.label for run in runs)),
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "bar": task.bar(),
        "data_note": task.data_note,
    }


def _train_all(folders: list[Path], settings: Comparison, console: Console, lock: TextIO) -> None:
    waiting = [folder for folder in folders if (read_json(folder / "result.json") or {}).get("status") != "done"]
    if len(waiting) < len(folders):
        console.print(f"{len(folders) - len(waiting)} of {len(folders)} runs are done already")
    if not waiting:
        return
    queue: SimpleQueue[Path] = SimpleQueue()
    for folder in waiting:
        queue.put(folder)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        overall = progress.add_task("all runs", total=len(waiting), note="")
        crew = [
            _Crew(queue, progress, overall, settings, lock, index)
            for index in range(min(settings.workers or 1, len(waiting)))
        ]
        for member in crew:
            member.start()
        try:
            while any(member.is_alive() for member in crew):
                time.sleep(0.1)
        finally:
            for member in crew:
                member.stop()
    refused = [member.refusal for member in crew if member.refusal]
    if refused:
        raise UserError(refused[0])


class _Crew(threading.Thread):
    """One worker process, and the thread that hands it folders and shows what it says."""

    def __init__(
        self,
        queue: SimpleQueue[Path],
        progress: Progress,
        overall: TaskID,
        settings: Comparison,
        lock: TextIO,
        index: int,
    ):
        super().__init__(daemon=True)
        self.queue, self.progress, self.overall, self.lock = queue, progress, overall, lock
        self.log = Path(settings.out) / f"worker-{index}.log"
        threads = str(settings.train.threads)
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self.environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if settings.train.deterministic:
            self.environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.process: subprocess.Popen[str] | None = None
        self.refusal: str | None = None
        self.stopped = False

    def run(self) -> None:
        try:
            while not self.stopped and not self.refusal:
                self._one(self.queue.get_nowait())
        except Empty:
            pass
        except Exception as error:  # whatever it is, the command must not end as if all were well
            self.refusal = one_line(error)
        if self.refusal:  # nothing more is handed out
            _drain(self.queue)
        self.stop()

    def stop(self) -> None:
        """End the worker process; its run goes on from its checkpoint another time."""
        self.stopped = True
        if self.process:
            self.process.kill()
            self.process.wait()

    def _one(self, folder: Path) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        assert self.process.stdin
        assert self.process.stdout
        row = self.progress.add_task(folder.name, total=1.0, note="starting")
        share = 0.0
        record: dict[str, Any] = {"event": "ended"}
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                record = json.loads(line)
                if record["event"] != "progress":
                    break
                before, share = share, record["done"] / record["total"]
                self.progress.update(row, completed=share, note=f"loss {record['loss']:.3f}")
                self.progress.advance(self.overall, share - before)
        except BrokenPipeError:
            record = {"event": "ended"}
        if self.stopped:
            return
        self._finish(folder, record)
        self.progress.advance(self.overall, 1 - share)
        self.progress.remove_task(row)

    def _finish(self, folder: Path, record: dict[str, Any]) -> None:
        if record["event"] in ("ended", "progress"):
            assert self.process
            code = self.process.wait()
            record = {"event": "failed", "reason": f"its worker process ended with code {code}; see {self.log.name}"}
            mark_failed(folder, record["reason"])
        if record["event"] == "refused":
            self.refusal = record["reason"]
        elif record["event"] == "failed":
            self.progress.console.print(f"{folder.name} [red]failed[/]: {record['reason']}")
        else:
            self.progress.console.print(f"{folder.name} [green]done[/]")

    def _start(self) -> subprocess.Popen[str]:
        """Through the installed script: then no folder of the working directory stands before the project's own."""
        here = Path(sys.argv[0])
        script = here if here.name == "mixerzoo" else Path(sysconfig.get_path("scripts")) / "mixerzoo"
        with open(self.log, "a") as log:
            return subprocess.Popen(
                [str(script.absolute()), "work"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                pass_fds=[self.lock.fileno()],
            )


def _drain(queue: SimpleQueue[Path]) -> None:
    """Empty the queue."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return


def _measure_speed(out: Path, runs: list[Run], task: Task, console: Console) -> None:
    """Training speed of each mixer with nothing else running; mixers without a finished run are left out."""
    speeds = read_json(out / "throughput.json") or {}
    done = [run for run in runs if (read_json(out / folder_name(run) / "result.json") or {}).get("status") == "done"]
    first = {str(run.label): run for run in reversed(done)}
    benches = [Bench(run, task) for label, run in first.items() if label not in speeds]
    with Progress(console=console) as progress:
        for _ in progress.track(range(WARM_UP + TURNS), description="measuring speed"):
            for bench in benches:
                bench.turn()
    measured = {bench.label: bench.tokens_per_second() for bench in benches}
    write_json(out / "throughput.json", speeds | measured)
