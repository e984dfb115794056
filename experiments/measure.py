"""What a model costs: operations and state, and the backends it runs."""

import importlib
import math
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.assemble import model_mixers
from experiments.config import Run
from experiments.machine import choose_device, uses_bfloat16
from mixers.contract import state_tensors
from tasks.contract import Batch, Task, device_of


def _real_transform(x: Any, dim: Any, *arguments: Any, out_shape: Any = None, **keywords: Any) -> int:
    return _transform(x, dim, arguments, out_shape, 2.5)


def _complex_transform(x: Any, dim: Any, *arguments: Any, out_shape: Any = None, **keywords: Any) -> int:
    return _transform(x, dim, arguments, out_shape, 5.0)


def _transform(x: Any, dim: Any, arguments: Any, out_shape: Any, factor: float) -> int:
    """The usual count of a fast Fourier transform: 5 n log2 n, half for real data; n is the longer side."""
    total = max(math.prod(x), math.prod(out_shape))
    length = math.prod(max(x[axis], out_shape[axis]) for axis in dim)
    return int(factor * total * math.log2(max(length, 2)))


def _grouped_backward(
    gradient: Any, x: Any, weight: Any, *arguments: Any, out_shape: Any = None, **keywords: Any
) -> int:
    """Two products, each as large as the forward one; torch's own count forgets the groups."""
    return 2 * 2 * math.prod(weight) * gradient[0] * math.prod(gradient[2:])


COUNTS = {
    torch.ops.aten._fft_r2c: _real_transform,
    torch.ops.aten._fft_c2r: _real_transform,
    torch.ops.aten._fft_c2c: _complex_transform,
    torch.ops.aten.convolution_backward: _grouped_backward,
}
"""torch's counter knows matrix products, convolutions and attention, and takes a Fourier transform for nothing and a
grouped convolution for a full one backwards."""


def flops_per_token(task: Task, model: nn.Module, batch_size: int) -> float:
    """Operations of forward and backward a token, in batches of the training's size and length.

    Counted for one sequence and for two, since each further one costs about as much: attention is counted as it is
    defined, and the scores of a whole batch may be more than the memory holds.
    """
    batch = task.batch(batch_size, seed=0, step=0)
    one, two = (_flops(task, model, tuple(tensor[:count] for tensor in batch)) for count in (1, 2))
    return (one + (batch_size - 1) * (two - one)) / (batch_size * task.length)


def _flops(task: Task, model: nn.Module, batch: Batch) -> int:
    batch = tuple(tensor.to(device_of(model)) for tensor in batch)
    if device_of(model).type == "cuda":  # what tells the counter how it counts them
        for kernel in ("tiles", "monarch", "encoder"):
            importlib.import_module(f"mixers.ops.kernels.{kernel}")
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter, sdpa_kernel(SDPBackend.MATH):
        task.loss(model, batch).backward()
    model.zero_grad()
    return counter.get_total_flops()


def state_bytes(task: Task, model: nn.Module) -> int | None:
    """Bytes of the decoding state of one sequence at the training length; None where the model does not decode."""
    if not task.causal:
        return None
    tokens = task.sample(1, task.length).to(device_of(model))
    try:
        with torch.no_grad():
            _, state = model.prefill(tokens)  # pyright: ignore[reportCallIssue]  causal models decode
    except NotImplementedError:  # a mixer that does not claim step
        return None
    return sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(state))


def backends(run: Run, task: Task, model: nn.Module) -> dict[str, str]:
    """The backend that each mixer with a choice runs in training."""
    device = choose_device(run.train)
    dtype = torch.bfloat16 if uses_bfloat16(run.train, device) else torch.float32  # what its projections give
    x = torch.zeros(1, task.length, run.backbone.dim, device=device, dtype=dtype)
    padded = not task.causal and task.grid is None  # an encoder masks pads; images have none
    mask = torch.ones(x.shape[:2], dtype=torch.bool, device=device) if padded else None
    chosen = ((name, mixer.backend_for(x, mask)) for name, mixer in model_mixers(model))
    return {name: backend for name, backend in chosen if backend is not None}
