"""Whether every row of the registry learns to use what other tokens say.

    python benchmarks/learning.py [--mixers gtu,fnet] [--tokens 800000] [--listops-tokens 2000000] [--seed 0]
                                  [--folder runs/learning] [--out learning.csv] [key=value ...]

Run from the repository root. Causal rows train on `python` at the settings of tasks/python.yaml but for the budget:
bits per byte on the held-out test text, beside the same row, trained the same, whose every token is a sequence of its
own (benchmarks/alone.py: same projections, gates and parameters, no token meets another), and beside the order-1 count
model. Bidirectional rows train on `listops` at its recipe: accuracy on the test lists beside the baseline that knows
the root operator alone. Two comparisons in --folder, two workers with one thread each; stopped and started again, the
command goes on.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

from rich.console import Console
from rich.table import Table

from benchmarks.alone import SUFFIX, write_registry
from experiments.compare import compare
from experiments.config import Comparison, load
from experiments.files import read_json
from mixers import card, names

MARGIN = 0.05  # bits per byte that token mixing must be worth
CAUSAL = [
    "mixer",
    "bits per byte",
    "without mixing",
    "order 1",
    "beats order 1",
    f"loses at least {MARGIN} without mixing",
]
BIDIRECTIONAL = ["mixer", "accuracy", "root operator", "verdict"]


def train(task: str, mixers: list[str], tokens: int, options: argparse.Namespace, console: Console) -> Path:
    """The folder of a comparison, all of whose runs are done or have failed."""
    out = options.folder / task
    fixed = ["workers=2", "train.threads=1", f"out={out}", f"registry={options.folder / 'alone.registry.yaml'}"]
    which = [f"task={task}", f"mixers=[{','.join(mixers)}]", f"seeds=[{options.seed}]", f"train.tokens={tokens}"]
    compare(load(Comparison, [*which, *fixed, *options.settings]), console)
    return out


def score(folder: Path, label: str, seed: int) -> float | str:
    """The metric of a run, or why it has none."""
    result = read_json(folder / f"{label}-{seed}" / "result.json")
    return result[result["metric"]] if result["status"] == "done" else f"failed: {result['reason']}"


def causal(mixers: list[str], options: argparse.Namespace, console: Console) -> list[list[Any]]:
    """The rows of the table on `python`."""
    runs = [label for name in mixers for label in (name, name + SUFFIX)]
    folder = train("python", runs, options.tokens, options, console)
    order_one = read_json(folder / "baselines.json")["test"]["order-1 counts"]
    rows: list[list[Any]] = []
    for name in mixers:
        bits, alone = (score(folder, label, options.seed) for label in (name, name + SUFFIX))
        beats = verdict(isinstance(bits, float) and bits < order_one)
        needs = verdict(isinstance(bits, float) and isinstance(alone, float) and alone - bits >= MARGIN)
        rows.append([name, bits, alone, order_one, beats, needs])
    return rows


def bidirectional(mixers: list[str], options: argparse.Namespace, console: Console) -> list[list[Any]]:
    """The rows of the table on `listops`; a grid, which its lists do not form, is no defect of a row."""
    able = [name for name in mixers if "grid" not in card(name).needs]
    rows: list[list[Any]] = []
    if able:
        folder = train("listops", able, options.listops_tokens, options, console)
        root = read_json(folder / "baselines.json")["test"]["root operator"]
        for name in able:
            accuracy = score(folder, name, options.seed)
            learnt = isinstance(accuracy, float) and accuracy > root
            rows.append([name, accuracy, root, "learnt" if learnt else "did not learn"])
    return rows + [[name, "", "", "needs a grid"] for name in mixers if name not in able]


def verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def show(title: str, headers: list[str], rows: list[list[Any]], console: Console) -> None:
    table = Table(*headers, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", type=lambda text: text.split(","), default=names())
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--listops-tokens", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("settings", nargs="*", help="key=value settings of both tasks, such as backbone.dim=32")
    options, console = parser.parse_intermixed_args(), Console(width=140)
    with_causal, with_bidirectional = (
        [name for name in options.mixers if form in card(name).claims] for form in ("causal", "bidirectional")
    )
    write_registry(options.folder / "alone.registry.yaml", with_causal)
    tables: list[tuple[str, list[str], list[list[Any]]]] = []
    if with_causal:
        title = f"python, {options.tokens:,} tokens, seed {options.seed}"
        tables.append((title, CAUSAL, causal(with_causal, options, console)))
    if with_bidirectional:
        title = f"listops, {options.listops_tokens:,} tokens, seed {options.seed}"
        tables.append((title, BIDIRECTIONAL, bidirectional(with_bidirectional, options, console)))
    for title, headers, rows in tables:
        show(title, headers, rows, console)
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            for title, headers, rows in tables:
                csv.writer(file).writerows([[title], headers, *rows])


if __name__ == "__main__":
    main()
