"""From settings to a model: the only place where a mixer's name meets a backbone."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from backbones.stack import MakeMixer, Stack
from experiments.config import Run
from experiments.errors import UserError, user_errors
from mixers.contract import Layer, Mixer
from mixers.registry import Card, build, card, check_overrides, load_class, require_form
from tasks.contract import Backbone, Build, Task

TOLERANCE = 0.01
"""How far matched parameter counts may lie apart."""


def layer_rows(run: Run) -> list[str]:
    """The row of each layer. `gtu*5,softmax` is a pattern; it repeats until the depth is filled."""
    return fill_pattern(str(run.mixer["name"]), run.backbone.depth)


def fill_pattern(text: str, depth: int) -> list[str]:
    """The names of a pattern, repeated until the depth is filled.

    Raises UserError for what is no pattern, or does not divide the depth.
    """
    pattern: list[str] = []
    for part in text.split(","):
        name, star, count = part.strip().partition("*")
        if star and not (count.strip().isdigit() and int(count) > 0):
            raise UserError(f"mixer pattern {text!r}: {part.strip()!r} must be NAME or NAME*COUNT")
        pattern += [name.strip()] * (int(count) if star else 1)
    if depth % len(pattern):
        raise UserError(
            f"mixer pattern {text!r} names {len(pattern)} layers, which do not divide backbone.depth={depth}"
        )
    return pattern * (depth // len(pattern))


def check_mixer_settings(run: Run, causal: bool) -> None:
    """Raise UserError where the mixer, its form or its keywords do not exist; builds nothing."""
    rows = layer_rows(run)
    if len(set(rows)) > 1 and _overrides(run):
        raise UserError(f"mixer pattern {run.mixer['name']!r} takes no keywords; add a row with them to a registry")
    with user_errors():
        for name in dict.fromkeys(rows):
            row = card(name, registry=run.registry)
            require_form(row, causal)
            check_overrides(row, _overrides(run), load_class(row.target))
    position(run)


def position(run: Run) -> str:
    """The absolute positions of the model: those that its rows ask for, unless all mixers are given the same."""
    if run.backbone.position != "row":
        return run.backbone.position
    asked = {row.position for row in _cards(run)} - {"none"}
    if len(asked) > 1:
        raise UserError(f"the layers ask for {' and '.join(sorted(asked))} positions; choose with backbone.position=")
    return asked.pop() if asked else "none"


def resolve(run: Run, causal: bool) -> Run:
    """The run with what its mixer decides written out: its keywords, channel mixer, width and positions."""
    check_mixer_settings(run, causal)
    backbone = dataclasses.replace(run.backbone, position=position(run))
    if run.block == "paper":
        blocks = {tuple(row.block.items()) for row in _cards(run)}
        if len(blocks) > 1:
            raise UserError("block=paper: the rows of the pattern differ in their blocks")
        backbone = dataclasses.replace(backbone, **dict(blocks.pop()))
    if backbone.width is None:
        backbone = dataclasses.replace(backbone, width=max(1, round(backbone.ratio * backbone.dim)))
    mixer = (
        {"name": run.mixer["name"], **_cards(run)[0].keywords, **_overrides(run)}
        if len(_cards(run)) == 1
        else run.mixer
    )
    label = run.label or str(run.mixer["name"]).replace("*", "x").replace(",", "+").replace(" ", "")
    return dataclasses.replace(run, backbone=backbone, label=label, mixer=mixer)


def build_model(run: Run, task: Task) -> nn.Module:
    """The model of a resolved run, its parts seeded by run.seed.

    Raises UserError where a value, or the task, does not suit the mixer.
    """
    if task.grid is None and (flat := [row.name for row in _cards(run) if "grid" in row.needs]):
        raise UserError(f"{flat[0]} mixes images, and task={run.task} has sequences; take another mixer")
    with user_errors():
        return task.model(_builder(run, causal=task.causal, length=task.length, grid=task.grid), seed=run.seed)


def build_stack(run: Run, *, causal: bool, length: int, grid: tuple[int, int] | None) -> Stack:
    """The stack of a resolved run for inputs of up to `length` tokens, a grid of them where the task has images."""
    return _builder(run, causal=causal, length=length, grid=grid)(Stack)


def _builder(run: Run, *, causal: bool, length: int, grid: tuple[int, int] | None) -> Build:
    """What builds a backbone of the run's mixers and settings."""
    backbone = run.backbone
    assert backbone.width is not None
    make_mixer = mixer_factory(
        layer_rows(run),
        backbone.dim,
        causal=causal,
        length=length,
        grid=grid,
        registry=run.registry,
        overrides=_overrides(run),
    )
    settings = {
        "width": backbone.width,
        "length": length,
        "channel": backbone.channel,
        "norm": backbone.norm,
        "final_norm": backbone.final_norm,
        "embedding_norm": backbone.embedding_norm,
        "embedding_std": backbone.embedding_std,
        "prenorm": backbone.prenorm,
        "position": backbone.position,
        "pooling": backbone.pooling,
        "head_width": backbone.head_width,
        "dropout": backbone.dropout,
        "drop_path": backbone.drop_path,
        "seed": run.seed,
    }

    def build_backbone(backbone: Callable[..., Backbone], **own: Any) -> Backbone:
        return backbone(run.backbone.dim, run.backbone.depth, make_mixer, **settings, **own)

    return build_backbone


def mixer_factory(
    rows: list[str],
    dim: int,
    *,
    causal: bool,
    length: int,
    grid: tuple[int, int] | None,
    registry: str | None,
    overrides: dict[str, Any],
) -> MakeMixer:
    """What builds the mixer of a layer, `rows` naming the row of each."""

    def make_mixer(index: int, depth: int, shared: nn.ParameterDict) -> nn.Module:
        layer = Layer(index, depth, shared)
        return build(
            rows[index], dim, causal=causal, length=length, grid=grid, layer=layer, registry=registry, **overrides
        )

    return make_mixer


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters, each once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def model_mixers(model: nn.Module) -> Iterator[tuple[str, Mixer]]:
    """The mixers of a model and their names, mixers inside mixers included."""
    for name, module in model.named_modules():
        if isinstance(module, Mixer):
            yield name, module


def match_parameters(run: Run, task: Task, target: int) -> Run:
    """The resolved run with its channel mixers' width chosen so that its parameters come within 1% of `target`.

    Without a channel mixer, the row's `match` keyword is turned instead. Raises UserError where neither reaches.
    """
    if run.backbone.channel == "none":
        return _match_by_keyword(run, task, target)

    def with_width(width: int) -> Run:
        return dataclasses.replace(run, backbone=dataclasses.replace(run.backbone, width=width))

    one, two = (_size(with_width(width), task) for width in (1, 2))
    width = max(1, 1 + round((target - one) / (two - one)))  # parameters are linear in the width
    return _require_match(with_width(width), task, target, f"backbone.width={width}")


def _match_by_keyword(run: Run, task: Task, target: int) -> Run:
    rows = _cards(run)
    key = rows[0].match
    if len(rows) > 1 or key == "none":
        raise UserError(f"{run.label}: without a channel mixer nothing can be turned to match parameters")
    start = {**keywords(rows[0]), **_overrides(run)}[key]

    def with_value(steps: int) -> Run:
        value = start * steps / 64 if isinstance(start, float) else 2 * steps
        return dataclasses.replace(run, mixer={**run.mixer, key: value})

    low = high = 64 if isinstance(start, float) else max(start // 2, 1)  # the target is no smaller than the row itself
    while _size(with_value(high), task) < target and high < 2**20:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _size(with_value(middle), task) < target else (low, middle)
    best = min((low, high), key=lambda steps: abs(_size(with_value(steps), task) - target))
    return _require_match(with_value(best), task, target, f"{key}={with_value(best).mixer[key]}")


def _require_match(run: Run, task: Task, target: int, what: str) -> Run:
    size = _size(run, task)
    if abs(size - target) > TOLERANCE * target:
        raise UserError(
            f"match=parameters: {run.label} has {size:,} parameters with {what}, and {target:,} are wanted; "
            "raise backbone.ratio or leave match out"
        )
    return run


def _size(run: Run, task: Task) -> int:
    with torch.device("meta"):
        return count_parameters(build_model(run, task))


def _cards(run: Run) -> list[Card]:
    with user_errors():
        return [card(name, registry=run.registry) for name in dict.fromkeys(layer_rows(run))]


def _overrides(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.mixer.items() if key != "name"}


def keywords(row: Card) -> dict[str, Any]:
    """All keywords of a row with their values, those of its constructor's defaults included."""
    parameters = inspect.signature(load_class(row.target)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {**defaults, **row.keywords}
