"""AdamW under the mixers' own rules, its learning rate, and the clipping of gradients.

Loshchilov and Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101.
"""

import math

import torch
from torch import nn

from experiments.assemble import model_mixers
from experiments.config import Train
from experiments.schedules import SCHEDULES


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """One group for each pair of (upper bound of the learning rate, weight decay).

    Matrices decay, vectors and embeddings do not; a mixer's optimizer_rules stand above that.
    """
    rules = _rules(model)
    embeddings = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    embeddings |= {name for name, _ in model.named_parameters() if name.endswith("position.embedding")}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.dim() >= 2 and name not in embeddings
            rule = rules.get(name, {})
            key = (rule.get("lr", math.inf), rule.get("weight_decay", train.weight_decay if decays else 0.0))
            groups.setdefault(key, []).append(parameter)
    described = [
        {"params": parameters, "bound": bound, "weight_decay": decay} for (bound, decay), parameters in groups.items()
    ]
    betas = train.beta1, train.beta2
    optimizer = torch.optim.AdamW(described, lr=train.learning_rate, betas=betas, eps=train.epsilon)
    set_learning_rate(optimizer, train, 1.0)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, train: Train, share: float) -> float:
    """Set every group to `share` of its highest learning rate; returns that of the unbounded ones."""
    for group in optimizer.param_groups:
        group["lr"] = share * min(train.learning_rate, group["bound"])
    return share * train.learning_rate


def schedule(train: Train, step: int, steps: int) -> float:
    """The share of the highest learning rate at `step` of `steps`: linear warm-up, then what train.schedule names."""
    warmup = max(1, round(train.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[train.schedule](step, warmup, steps, train.final)


def clip_gradient(model: nn.Module, train: Train) -> torch.Tensor:
    """Clip the gradient by its norm, then by its entries, each where it is asked for; returns the norm before."""
    largest = math.inf if train.clip is None else train.clip
    norm = nn.utils.clip_grad_norm_(model.parameters(), largest)
    if train.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), train.clip_value)
    return norm


def _rules(model: nn.Module) -> dict[str, dict[str, float]]:
    """The rules of all mixers, under the parameters' names in the model.

    Raises ValueError for a rule about a parameter that does not exist.
    """
    known = dict(model.named_parameters())
    rules = {}
    for prefix, mixer in model_mixers(model):
        for name, rule in mixer.optimizer_rules().items():
            if f"{prefix}.{name}" not in known:
                raise ValueError(f"{type(mixer).__name__}.optimizer_rules names {name!r}, which is no parameter")
            rules[f"{prefix}.{name}"] = rule
    return rules
