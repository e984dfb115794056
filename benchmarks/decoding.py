"""Decoding token by token: time and bytes of memory traffic per token against position, for every way of doing it.

    python benchmarks/decoding.py [--dim 128] [--longest 16384] [--plot decoding.png]

One layer, one sequence, float32, one thread. Each row decodes from position P / 2 to P: the mean milliseconds and bytes
a token over all of them, and the slowest token. Bytes are those of the tensors that each operation reads and writes,
views aside. `history` is the Toeplitz product with every token before, as a reference.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.machine import environment
from mixers import build
from mixers.contract import Mixer, State

ROWS = ["gtu", "gtu_state_space", "s4d", "linear_elu", "softmax"]


class Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((arguments, keywords, result)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


class History(torch.nn.Module):
    """gtu with the dense history in place of the online product."""

    def __init__(self, gtu: Mixer):
        super().__init__()
        self.gtu = gtu

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        return self.gtu(x), self.gtu.projections(x)[1]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        gate, value = self.gtu.projections(x[:, None])
        values = torch.cat([state, value], dim=1)
        newest_last = self.gtu.operator._lags(values.shape[1]).flip(0)
        mixed = torch.einsum("nd,bnd->bd", newest_last, values)
        return self.gtu.projections.output(gate, mixed[:, None])[:, 0], values


def decode(mixer: Any, dim: int, end: int) -> tuple[float, float, float]:
    """Mean milliseconds, slowest milliseconds and mean bytes a token, from position end / 2 to end."""
    x = torch.randn(1, end, dim)
    _, state = mixer.prefill(x[:, : end // 2])
    seconds = []
    for place in range(end // 2, end):
        start = time.perf_counter()
        _, state = mixer.step(x[:, place], state)
        seconds.append(time.perf_counter() - start)
    _, state = mixer.prefill(x[:, : end // 2])
    with Traffic() as traffic:
        for place in range(end // 2, end):
            _, state = mixer.step(x[:, place], state)
    return 1000 * statistics.mean(seconds), 1000 * max(seconds), traffic.bytes / (end - end // 2)


def plot(path: Path, results: dict[str, list[tuple[int, float, float, float]]]) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, column, label in zip(
        figure.subplots(1, 2), (1, 3), ("milliseconds a token", "bytes a token"), strict=True
    ):
        for name, rows in results.items():
            axes.plot([row[0] for row in rows], [row[column] for row in rows], "o-", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("position")
        axes.set_ylabel(label)
        axes.grid(color="#e4e4e4")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncol=6, frameon=False)
    figure.savefig(path, dpi=130)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--longest", type=int, default=16384)
    parser.add_argument("--plot", type=Path)
    options, console = parser.parse_args(), Console(width=110)
    torch.set_num_threads(1)
    machine = environment(torch.device("cpu"))
    console.print(f"{machine['device']}, 1 thread, torch {machine['torch']}, dim {options.dim}", highlight=False)
    positions = [end for end in (256, 1024, 4096, 16384, 65536) if end <= options.longest]
    mixers: dict[str, Any] = {name: build(name, options.dim, causal=True).eval() for name in ROWS}
    mixers["history"] = History(mixers["gtu"])
    results: dict[str, list] = {name: [] for name in mixers}
    cells = [(name, end) for end in positions for name in mixers]
    for name, end in track(cells, "decoding", console=console, transient=True):
        results[name].append((end, *decode(mixers[name], options.dim, end)))
    table = Table("mixer", "position", "ms a token", "slowest, ms", "kB a token", box=None, pad_edge=False)
    for name, rows in results.items():
        for end, mean, slowest, traffic in rows:
            table.add_row(name, f"{end // 2:,} to {end:,}", f"{mean:.3f}", f"{slowest:.2f}", f"{traffic / 1000:,.0f}")
    console.print(table)
    if options.plot:
        plot(options.plot, results)


if __name__ == "__main__":
    main()
