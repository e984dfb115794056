"""Which inputs each output of a trained model depends on."""

from typing import Any

import torch
from torch import nn

from tasks.contract import Task, device_of

LENGTH = 64
SEQUENCES = 4


def dependence(task: Task, model: nn.Module) -> list[list[float]]:
    """Entry [i][j]: the size of the gradient of the hidden output i by the embedding of token j, largest in row i = 1.

    The mean over a few held-out sequences, with one random weighting of the channels each; at most the first LENGTH
    tokens, which may be patches of an image.
    """
    inputs = task.sample(SEQUENCES, min(LENGTH, task.length)).to(device_of(model))
    generator = torch.Generator().manual_seed(0)
    parts: Any = model
    embedded = parts.embedding(inputs).detach().requires_grad_()
    hidden = parts.stack(embedded)
    weights = torch.randn(len(inputs), 1, hidden.shape[-1], generator=generator).to(hidden.device)
    scores = (hidden * weights).sum(-1)[:, :LENGTH]  # (sequences, N)
    rows = []
    for position in range(scores.shape[1]):
        (gradient,) = torch.autograd.grad(scores[:, position].sum(), embedded, retain_graph=True)
        sizes = gradient.norm(dim=-1).mean(0)[:LENGTH]
        rows.append((sizes / sizes.max().clamp_min(1e-30)).tolist())
    return [[float(f"{value:.3g}") for value in row] for row in rows]
