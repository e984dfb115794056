"""What a model costs: operations, state and speed."""

import math
import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.assemble import build_model, model_mixers
from experiments.config import Run
from experiments.machine import autocast, choose_device
from experiments.optimizer import make_optimizer
from mixers.contract import state_tensors
from tasks.contract import Task


def _real_transform(x: Any, dim: Any, *arguments: Any, out_shape: Any = None, **keywords: Any) -> int:
    return _transform(x, dim, arguments, out_shape, 2.5)


def _complex_transform(x: Any, dim: Any, *arguments: Any, out_shape: Any = None, **keywords: Any) -> int:
    return _transform(x, dim, arguments, out_shape, 5.0)


def _transform(x: Any, dim: Any, arguments: Any, out_shape: Any, factor: float) -> int:
    """The usual count of a fast Fourier transform: 5 n log2 n, half for real data; n is the longer side."""
    total = max(math.prod(x), math.prod(out_shape))
    length = math.prod(max(x[axis], out_shape[axis]) for axis in dim)
    return int(factor * total * math.log2(max(length, 2)))


FOURIER = {
    torch.ops.aten._fft_r2c: _real_transform,
    torch.ops.aten._fft_c2r: _real_transform,
    torch.ops.aten._fft_c2c: _complex_transform,
}
"""torch's counter knows matrix products, convolutions and attention, and takes a Fourier transform for nothing."""


def flops_per_token(task: Task, model: nn.Module) -> float:
    """Operations of forward and backward a token, at the training length: matrix products and Fourier transforms."""
    device = next(model.parameters()).device
    batch = tuple(tensor.to(device) for tensor in task.batch(1, seed=0, step=0))
    with FlopCounterMode(display=False, custom_mapping=FOURIER) as counter, sdpa_kernel(SDPBackend.MATH):
        task.loss(model, batch).backward()
    model.zero_grad()
    return counter.get_total_flops() / task.length


def state_bytes(task: Task, model: nn.Module) -> int | None:
    """Bytes of the decoding state of one sequence at the training length; None where the model does not decode."""
    if not task.causal:
        return None
    tokens = task.sample(1, task.length).to(next(model.parameters()).device)
    try:
        with torch.no_grad():
            _, state = model.prefill(tokens)  # pyright: ignore[reportCallIssue]  causal models decode
    except NotImplementedError:  # a mixer that does not claim step
        return None
    return sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(state))


def backends(run: Run, task: Task, model: nn.Module) -> dict[str, str]:
    """The backend that each mixer with a choice runs in training."""
    device = choose_device(run.train)
    context = autocast(run.train, device)
    dtype = torch.bfloat16 if context._enabled else torch.float32  # what its projections give
    x = torch.zeros(1, task.length, run.backbone.dim, device=device, dtype=dtype)
    chosen = ((name, mixer.backend_for(x)) for name, mixer in model_mixers(model))
    return {name: backend for name, backend in chosen if backend is not None}


class Throughput:
    """Training speed of several runs, measured in turns so that all meet the same machine."""

    def __init__(self, run: Run, task: Task):
        self.run, self.task = run, task
        self.device = choose_device(run.train)
        self.model = build_model(run, task).to(self.device)
        self.optimizer = make_optimizer(self.model, run.train)
        self.seconds: list[float] = []

    def turn(self, step: int) -> None:
        """One training step, timed."""
        batch = tuple(tensor.to(self.device) for tensor in self.task.batch(self.run.train.batch, seed=0, step=step))
        self._wait()
        start = time.perf_counter()
        with autocast(self.run.train, self.device):
            loss = self.task.loss(self.model, batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._wait()
        self.seconds.append(time.perf_counter() - start)

    def tokens_per_second(self, warm_up: int) -> float:
        """Tokens a second of the median step, the first `warm_up` left out."""
        return self.run.train.batch * self.task.length / statistics.median(self.seconds[warm_up:])

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
