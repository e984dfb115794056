"""Table 3 of the TNN paper: GLUE, fine-tuned from runs of `mlm`, three epochs with each of the paper's learning rates,
the best of them on the development split.

    python benchmarks/glue.py 'start=runs/mlm/{label}-0' 'mixers=[gtu,softmax]' seeds=1 out=runs/glue

takes the settings of `mixerzoo compare`, and subsets=[cola,sst2] for some of the tasks. Each cell is a comparison in a
folder of its own, out/SUBSET/RATE; the same command goes on where it was cut off.
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

from rich.console import Console
from rich.table import Table

import tasks
from experiments.compare import compare
from experiments.config import Comparison, load, parse_value
from experiments.errors import UserError, one_line, user_errors
from experiments.summary import read
from tasks.glue_files import SUBSETS

RATES = (1e-5, 3e-5, 6e-5, 1e-4)
EPOCHS = 3


def best(subset: str, settings: list[str], out: str, console: Console) -> dict[str, str]:
    """{mixer: its best mean over the seeds on the development split, and the rate that gave it}."""
    means: dict[str, list[tuple[float, float]]] = {}
    metric = ""
    for rate in RATES:
        cell = [f"data.subset={subset}", f"train.learning_rate={rate}", f"out={out}/{subset}/{rate:g}"]
        found = load(Comparison, ["task=glue", *settings, *cell])
        with user_errors():
            task = tasks.load("glue", found.data)
        found.train.tokens = EPOCHS * task.examples * task.length
        compare(found, console)
        summary = read(Path(found.out))
        metric = summary.metric
        for label in summary.labels:
            scores = [entry.result[metric] for entry in summary.of(label)]
            if scores:
                means.setdefault(label, []).append((statistics.mean(scores), rate))
    chosen = {label: max(values) for label, values in means.items()}
    return {label: f"{100 * score:.1f} {metric} ({rate:g})" for label, (score, rate) in chosen.items()}


def main() -> None:
    """Run the grid and print a row a mixer."""
    console = Console()
    own = {key: value for key, _, value in (argument.partition("=") for argument in sys.argv[1:])}
    subsets = parse_value("subsets", own.pop("subsets", "[" + ",".join(SUBSETS) + "]"))
    out = own.pop("out", "runs/glue")
    settings = [f"{key}={value}" for key, value in own.items()]
    try:
        columns = {subset: best(subset, settings, out, console) for subset in subsets}
    except UserError as error:
        sys.exit(f"glue: {one_line(error)}")
    table = Table(box=None, header_style="bold")
    for header in ("mixer", *columns):
        table.add_column(header)
    for label in dict.fromkeys(label for cells in columns.values() for label in cells):
        table.add_row(label, *(cells.get(label, "–") for cells in columns.values()))
    console.print(table)


if __name__ == "__main__":
    main()
