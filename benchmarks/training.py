"""Training steps of the TNN paper's language model beside its Transformer, on a GPU.

    python benchmarks/training.py [--tokens 32768] [--lengths 512,2048,8192,32768] [--out training.csv]

TNN has 7 layers of dim 512, the Transformer 6 with flash attention (section 4.1); both have a vocabulary of 50,264. A
step is forward, backward and AdamW under bfloat16 autocast. Steps follow one another as in training: tokens a second
are of the median of groups of them by device events, models in turns. `ms alone` is a step that begins when the one
before has ended, and waits for launches. Memory is what a step raises the peak by. Each backend of the Toeplitz product
is a model of its own.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from backbones.causal_lm import CausalLM
from backbones.stack import Stack
from benchmarks.timing import attempt, milliseconds, peak
from experiments.machine import environment
from mixers import build

VOCABULARY, DIM = 50_264, 512
CUDA = torch.device("cuda")
WARM_UP, REPEATS, GROUP = 3, 7, 4


def tnn(length: int, backend: str) -> CausalLM:
    def mixer(index: int, depth: int, shared: nn.ParameterDict) -> nn.Module:
        return build("gtu", DIM, causal=True, backend=backend)

    return CausalLM(Stack(DIM, 7, mixer, width=DIM, length=length, final_norm="layer"), vocabulary=VOCABULARY)


def transformer(length: int) -> CausalLM:
    def mixer(index: int, depth: int, shared: nn.ParameterDict) -> nn.Module:
        return build("softmax", DIM, causal=True, heads=8)

    stack = Stack(DIM, 6, mixer, width=4 * DIM, length=length, channel="ffn", norm="layer", position="sinusoidal")
    return CausalLM(stack, vocabulary=VOCABULARY)


MODELS: dict[str, Callable[[int], CausalLM]] = {
    "transformer": transformer,
    "tnn, fft": lambda length: tnn(length, "fft"),
    "tnn": lambda length: tnn(length, "auto"),
}


def training_step(model: nn.Module, tokens: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(tokens)
        F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(length: int, tokens: int) -> dict[str, tuple[float, float, float]]:
    """Milliseconds a step in groups and alone, and megabytes at its peak, by model."""
    batch = torch.randint(VOCABULARY, (max(tokens // length, 1), length), device=CUDA)
    steps = {name: training_step(make(length).to(CUDA), batch) for name, make in MODELS.items()}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(REPEATS):
        for name, step in steps.items():
            together = milliseconds(lambda step=step: [step() for _ in range(GROUP)], CUDA) / GROUP
            times[name].append((together, milliseconds(step, CUDA)))
    medians = {name: [*map(statistics.median, zip(*values, strict=True))] for name, values in times.items()}
    return {name: (*medians[name], peak(step, CUDA)) for name, step in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--lengths", type=lambda text: [*map(int, text.split(","))], default=[512, 2048, 8192, 32_768])
    parser.add_argument("--out", type=Path)
    options, console = parser.parse_args(), Console(width=120)
    machine = environment(CUDA)
    headers = [
        "N",
        "model",
        "ms a step",
        "ms alone",
        "tokens a second",
        "of the Transformer's",
        "peak, MB",
        "of the Transformer's ",
    ]
    rows: list[list[str]] = []
    for length in options.lengths:
        values = attempt(lambda length=length: measure(length, options.tokens))
        if isinstance(values, str):
            rows.append([str(length), values, *[""] * 6])
            continue
        time, _, memory = values["transformer"]
        for name, (ms, alone, megabytes) in values.items():
            speed = f"{1000 * options.tokens / ms:,.0f}"
            ratios = f"{time / ms:.2f}", f"{megabytes / memory:.2f}"
            rows.append(
                [str(length), name, f"{ms:.1f}", f"{alone:.1f}", speed, ratios[0], f"{megabytes:,.0f}", ratios[1]]
            )
        torch.cuda.empty_cache()
    table = Table(*headers, title=f"{machine['device']}, torch {machine['torch']}", title_justify="left", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([headers, *rows])


if __name__ == "__main__":
    main()
