"""The Toeplitz product beside the plain formula, and its growth with N, on the CPU.

    python benchmarks/toeplitz.py [--repeats 30]

Prints two tables. Ratios are of medians over interleaved repeats in one run, at D = 256 and 8,192 tokens in float32;
the plain formula is irfft(rfft(x, 2N) * rfft(t, 2N), 2N)[:N] on (B, N, D). The second table is one sequence of N
tokens: milliseconds, and the megabytes by which forward and backward raise the peak of the process.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from experiments.machine import environment, peak_memory, reset_peak_memory
from mixers.ops.toeplitz import prepare, toeplitz_matmul

DIM, TOKENS = 256, 8192
CPU = torch.device("cpu")


def plain(coefficients: Tensor, x: Tensor) -> Tensor:
    """The formula as the authors' code has it."""
    length, size = x.shape[1], 2 * x.shape[1]
    product = torch.fft.rfft(x, size, dim=1) * torch.fft.rfft(coefficients, size, dim=0)
    return torch.fft.irfft(product, size, dim=1)[:, :length]


def ours(coefficients: Tensor, x: Tensor) -> Tensor:
    return toeplitz_matmul(coefficients, x, causal=True)


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each call, taken in turns after two rounds of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(times[2:]) for name, times in seconds.items()}


def forward(product: Callable[..., Tensor], coefficients, x: Tensor) -> Callable[[], object]:
    def call() -> None:
        with torch.no_grad():
            product(coefficients, x)

    return call


def both(product: Callable[..., Tensor], coefficients: Tensor, x: Tensor) -> Callable[[], object]:
    """Forward and backward, to coefficients and x."""
    weight = torch.randn_like(x)

    def call() -> None:
        leaves = coefficients.detach().requires_grad_(), x.detach().requires_grad_()
        product(*leaves).backward(weight)

    return call


def ratios(length: int, repeats: int) -> list[str]:
    coefficients = torch.randn(length, DIM) / length
    x = torch.randn(TOKENS // length, length, DIM)
    channel_first = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    prepared = prepare(coefficients, length, x.dtype)
    time_of = medians(
        {
            "plain": forward(plain, coefficients, x),
            "contiguous": forward(ours, coefficients, x),
            "prepared": forward(ours, prepared, channel_first),
            "plain both": both(plain, coefficients, x),
            "both": both(ours, coefficients, x),
        },
        repeats,
    )
    shares = [
        time_of["both"] / time_of["plain both"],
        time_of["contiguous"] / time_of["plain"],
        time_of["prepared"] / time_of["plain"],
    ]
    return [f"{length:,}", f"{time_of['plain']:.1f}", f"{time_of['plain both']:.1f}", *(f"{s:.2f}" for s in shares)]


def growth(length: int) -> list[str]:
    call = both(ours, torch.randn(length, DIM) / length, torch.randn(1, length, DIM))
    milliseconds = medians({"both": call}, 3)["both"]
    reset_peak_memory(CPU)
    before = peak_memory(CPU) or 0
    call()
    megabytes = ((peak_memory(CPU) or 0) - before) / 1e6
    per_token = 1000 * milliseconds / length
    return [
        f"{length:,}",
        f"{milliseconds:.1f}",
        f"{per_token:.1f}",
        f"{megabytes:.0f}",
        f"{4e-6 * length**2 * DIM:,.0f}",
    ]


def show(console: Console, title: str, headers: list[str], rows: list[list[str]]) -> None:
    table = Table(*headers, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats, console = parser.parse_args().repeats, Console(width=120)
    machine = environment(CPU)
    console.print(f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}\n", highlight=False)
    lengths = [512, 1024, 2048, 4096, 8192]
    headers = [
        "N",
        "plain forward, ms",
        "plain both, ms",
        "both / plain",
        "forward / plain",
        "prepared, (D, B, N) / plain",
    ]
    rows = [ratios(length, repeats) for length in track(lengths, "timing", console=console, transient=True)]
    show(console, f"Beside the plain formula ({repeats} repeats)", headers, rows)
    headers = ["N", "forward and backward, ms", "µs a token", "peak, MB", "an N x N matrix a channel, MB"]
    lengths = [2**power for power in range(9, 18)]
    rows = [growth(length) for length in track(lengths, "growing", console=console, transient=True)]
    show(console, "One sequence of N tokens", headers, rows)


if __name__ == "__main__":
    main()
