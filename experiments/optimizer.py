"""AdamW under the mixers' own rules, with warm-up and a cosine.

Loshchilov and Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101.
"""

import math

import torch
from torch import nn

from experiments.assemble import model_mixers
from experiments.config import Train


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
    optimizer = torch.optim.AdamW(described, lr=train.learning_rate, betas=(train.beta1, train.beta2), eps=1e-8)
    set_learning_rate(optimizer, train, 1.0)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, train: Train, share: float) -> float:
    """Set every group to `share` of its highest learning rate; returns that of the unbounded ones."""
    for group in optimizer.param_groups:
        group["lr"] = share * min(train.learning_rate, group["bound"])
    return share * train.learning_rate


def schedule(train: Train, step: int, steps: int) -> float:
    """The share of the highest learning rate at `step` of `steps`: linear warm-up, then a cosine to `final`."""
    warmup = max(1, round(train.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return train.final + (1 - train.final) * 0.5 * (1 + math.cos(math.pi * progress))


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
