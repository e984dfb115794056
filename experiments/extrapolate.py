"""Score trained models at other lengths than they were trained with."""

from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.config import parse_value
from experiments.errors import UserError
from experiments.files import read_json, write_json
from experiments.folders import saved_settings
from experiments.machine import autocast, choose_device
from experiments.plan import length_list
from experiments.train import load_model


def extrapolate(folder: Path, argument: str, console: Console) -> None:
    """Score every finished run below `folder` at the lengths of `lengths=[…]`, print them and keep them in the results.

    Raises UserError for lengths that are none, and where there is no finished run.
    """
    lengths = _lengths(argument)
    runs = (
        [folder] if (folder / "result.json").exists() else sorted(path.parent for path in folder.glob("*/result.json"))
    )
    runs = [run for run in runs if read_json(run / "result.json")["status"] == "done"]
    if not runs:
        raise UserError(f"{folder} holds no finished run")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("run", *map(str, lengths)):
        table.add_column(header, justify="left" if header == "run" else "right")
    for run in track(runs, "scoring", console=console):
        values = _score(run, lengths)
        table.add_row(run.name, *(f"{values[length]:.3f}" if length in values else "–" for length in lengths))
    console.print(table)
    if "mixers" in (saved_settings(folder) or {}):
        from experiments import report

        console.print(f"report: {report.write(folder)}", soft_wrap=True)


def _score(folder: Path, lengths: list[int]) -> dict[int, float]:
    run, task, model = load_model(folder)
    try:
        with autocast(run.train, choose_device(run.train)):
            values = task.extrapolate(model, lengths)
    except ValueError as error:  # a mixer or learned positions that end at the training length
        raise UserError(f"{folder.name} has no form beyond its training length: {error}") from error
    if not values:
        raise UserError(f"task {run.task} has no measure at these lengths: no held-out document is so long")
    result = read_json(folder / "result.json")
    write_json(folder / "result.json", {**result, "extrapolation": {str(n): value for n, value in values.items()}})
    return values


def _lengths(argument: str) -> list[int]:
    key, _, text = argument.partition("=")
    if key != "lengths":
        raise UserError(f"{argument!r} must be of the form lengths=[512,1024]")
    return length_list(parse_value(key, text))
