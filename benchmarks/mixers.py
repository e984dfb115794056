"""Forward, backward and peak memory of every mixer of the registry, at one number of tokens and growing lengths.

    python benchmarks/mixers.py [--mixers gtu,softmax] [--lengths 512,1024] [--dim 256] [--tokens 32768]
                                [--device cuda] [--seconds 240] [--out mixers.csv]

One mixer alone on x (tokens / N, N, dim) in float32, under bfloat16 autocast on CUDA. Medians of up to 10 calls after
up to 3 of warm-up (fewer where a call takes long; the file says how many): device events on CUDA, which include waits
for launches, and the clock on a CPU. `forward` runs without gradients; `both` is forward and backward, to x and all
parameters. Megabytes: by how much `both` raises the peak of the device, or of the process on a CPU, which is a lower
bound there: memory that the process held already counts as free. All mixers at one N come before the next N.
"""

import argparse
import csv
import gc
import math
import sys
import time
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from benchmarks.timing import attempt, calls, median, peak
from experiments.machine import environment
from mixers import build, card, names
from mixers.contract import Layer, Mixer

FORMS = ("causal", "bidirectional")
HEADERS = ["mixer", "form", "length", "forward_ms", "both_ms", "megabytes", "forward_calls", "both_calls"]


def near_square(length: int) -> tuple[int, int]:
    """(H, W) with H * W = N and H the largest divisor up to the square root."""
    height = next(height for height in range(math.isqrt(length), 0, -1) if length % height == 0)
    return height, length // height


def make(name: str, form: str, length: int, dim: int, device: torch.device) -> Mixer:
    """The mixer, built on the device where its constructor can (large matrices), else moved there."""
    arguments: dict[str, Any] = {"causal": form == "causal", "length": length, "grid": near_square(length)}
    for place in (device, torch.device("cpu")):
        torch.manual_seed(0)
        try:
            with place:
                return build(name, dim, layer=Layer(0, 1, nn.ParameterDict()), **arguments).to(device)
        except ValueError:
            if place == torch.device("cpu"):
                raise
    raise AssertionError


def cell(name: str, form: str, length: int, options: argparse.Namespace) -> list[Any]:
    """One row of the file, in the order of HEADERS."""
    device = torch.device(options.device)
    mixer = attempt(lambda: make(name, form, length, options.dim, device))
    if isinstance(mixer, str):
        return [name, form, length, mixer, mixer, mixer, 0, 0]
    x = torch.randn(max(1, options.tokens // length), length, options.dim, device=device)
    forward, both = calls(mixer, x)
    found = [attempt(lambda call=call: median(call, device)) for call in (forward, both)]
    mixer.zero_grad(set_to_none=True)
    megabytes = found[1] if isinstance(found[1], str) else attempt(lambda: peak(both, device))
    (ahead, ahead_calls), (back, back_calls) = ((each, 0) if isinstance(each, str) else each for each in found)
    return [name, form, length, ahead, back, megabytes, ahead_calls, back_calls]


def measure(options: argparse.Namespace, console: Console, file: TextIO | None) -> list[list[Any]]:
    """All rows of the file, which grows as they come."""
    forms = [(name, form) for form in FORMS for name in options.mixers if form in card(name).claims]
    cells = [(name, form, length) for length in options.lengths for name, form in forms]
    start = time.monotonic()
    rows: list[list[Any]] = []
    for name, form, length in track(cells, "timing", console=console, transient=True):
        if time.monotonic() - start > options.seconds:
            console.print(f"stopped after {options.seconds:.0f} s, before {name} {form} at N = {length}")
            break
        rows.append(cell(name, form, length, options))
        if isinstance(rows[-1][5], str) and options.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        if file:
            csv.writer(file).writerow(rows[-1])
            file.flush()
    return rows


def show(rows: list[list[Any]], lengths: list[int], console: Console) -> None:
    """Print milliseconds of forward and backward by N, and megabytes at the largest."""

    def text(value: Any, digits: int) -> str:
        return f"{value:,.{digits}f}" if isinstance(value, float) else str(value)

    found = {tuple(row[:3]): row for row in rows}
    table = Table("mixer", "form", *(f"{length:,}" for length in lengths), "MB", box=None, pad_edge=False)
    for name, form in dict.fromkeys((row[0], row[1]) for row in rows):
        by_length = [found.get((name, form, length), [""] * len(HEADERS)) for length in lengths]
        table.add_row(name, form, *(text(row[4], 2) for row in by_length), text(by_length[-1][5], 0))
    console.print("ms of forward and backward by N, MB at the largest N", highlight=False)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", type=lambda text: text.split(","), default=names())
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, help="start no cell after so many (default: 240 on CUDA)")
    parser.add_argument("--out", type=Path)
    options, console = parser.parse_args(), Console(width=140)
    on_cuda = options.device == "cuda"
    options.lengths = options.lengths or ([512, 1024, 2048, 4096, 8192, 16384] if on_cuda else [512, 1024])
    options.seconds = options.seconds or (240.0 if on_cuda else math.inf)
    machine = torch.cuda.get_device_name() if on_cuda else environment(torch.device("cpu"))["device"]
    how = "bfloat16 autocast" if on_cuda else f"float32, {torch.get_num_threads()} threads"
    console.print(f"{machine}, torch {torch.__version__}, {how}, dim {options.dim}", highlight=False)
    console.print(f"{options.tokens:,} tokens a batch", highlight=False)
    if options.out is None:
        rows = measure(options, console, None)
    else:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(HEADERS)
            rows = measure(options, console, file)
    show(rows, options.lengths, console)


if __name__ == "__main__":
    main()
