"""Time and memory of one mixer: what a call takes, and what it raises the peak by.

Shapes: B batch, N length, D dim.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.machine import is_out_of_memory, peak_rise
from mixers.contract import Mixer

WARM_UP, REPEATS = 3, 10
LONG, BUDGET = 2.0, 1.0
"""Seconds: warm-up ends once it took LONG, and the timed calls of one number take about BUDGET at the most."""


def calls(mixer: Mixer, x: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward, and forward with backward, of x (B, N, D)."""

    def forward() -> None:
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            mixer(x)

    def both() -> None:
        mixer.zero_grad(set_to_none=True)
        leaf = x.detach().requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            y = mixer(leaf)
        y.backward(x.to(y.dtype))

    return forward, both


def milliseconds(call: Callable[[], None], device: torch.device) -> float:
    """How long one call takes, by device events on CUDA."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def median(call: Callable[[], None], device: torch.device) -> tuple[float, int]:
    """Median milliseconds after warm-up, and of how many calls."""
    warm: list[float] = []
    while len(warm) < WARM_UP and sum(warm) < 1000 * LONG:
        warm.append(milliseconds(call, device))
    repeats = max(1, min(REPEATS, int(1000 * BUDGET / warm[-1])))
    return statistics.median(milliseconds(call, device) for _ in range(repeats)), repeats


def peak(call: Callable[[], None], device: torch.device) -> float:
    """Megabytes by which a call raises the peak."""
    return (peak_rise(call, device) or 0) / 1e6


def attempt(action: Callable[[], Any]) -> Any:
    """What `action` returns, or the name of what it fails with."""
    try:
        return action()
    except Exception as error:
        return "out of memory" if is_out_of_memory(error) else type(error).__name__
