"""The settings of a run and of a comparison: typed sections, a task's recipe, a file, and key=value overrides."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

import tasks
from experiments.errors import UserError, one_line
from experiments.schedules import SCHEDULES
from mixers.registry import CHANNELS, POSITIONS, did_you_mean

SETTINGS = Path(__file__).parent / "settings"
"""Ready settings: the TNN paper's models, its ablations, and one of its code."""


@dataclass
class Backbone:
    """What stands around the mixers; the same for all mixers of a comparison."""

    dim: int = 64
    depth: int = 2
    channel: str = "glu"  # the channel mixer: glu, ffn or none
    ratio: float = 1.0  # its inner width over dim
    width: int | None = None  # its inner width; null: ratio * dim, or what match=parameters finds
    norm: str = "rms"  # rms, layer, scale, or, where the task is not causal, batch
    final_norm: str | None = None  # the one before the head; null: as norm
    embedding_norm: str | None = None  # one between embedding and blocks; null: none
    embedding_std: float | None = None  # of token embeddings, taken as they are; null: N(0, 1 / dim) times sqrt(dim)
    prenorm: bool = True
    position: str = "row"  # none, sinusoidal or learned; row: what each mixer's row asks for
    pooling: str = "mean"  # of classifiers: mean over real tokens, padded_mean over all places, first or last
    head_width: int | None = None  # of classifiers: the head's inner width; null: one linear layer
    dropout: float = 0.0
    drop_path: float = 0.0


@dataclass
class Train:
    """How a run is trained; budgets are counted in tokens."""

    tokens: int = 400_000
    batch: int = 8  # sequences a step
    accumulate: int = 1  # parts that a batch is split into
    learning_rate: float = 1e-3
    warmup: float = 0.1  # share of the steps
    schedule: str = "cosine"  # after the warm-up: cosine, linear, inverse_sqrt or constant
    final: float = 0.1  # learning rate at the end over the highest, of cosine and linear
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8  # what AdamW adds to the root of the second moment
    clip: float | None = 1.0  # the largest norm of the gradient; null: any
    clip_value: float | None = None  # the largest size of an entry of the gradient; null: any
    ema: float = 0.0  # decay of the moving average of the parameters, which is evaluated then; 0: none
    redraw: int = 1000  # steps between draws of random features
    validations: int = 8  # in the course of a run
    checkpoint_seconds: float = 30.0
    device: str = "auto"  # cpu, cuda; auto: cuda where there is one
    precision: str = "auto"  # float32, bfloat16 (autocast); auto: bfloat16 on CUDA
    threads: int | None = None  # of the CPU; null: all cores, shared by the workers
    compile: bool = False
    deterministic: bool = False


@dataclass
class Run:
    """One run: (task, backbone, mixer, seed, everything else)."""

    task: str = "python"
    label: str | None = None  # names the folder, table rows and plots; null: the mixer's name
    mixer: dict[str, Any] = field(default_factory=lambda: {"name": "gtu"})
    seed: int = 0
    block: str | None = None  # paper: the channel mixer of the mixer's row
    start: str | None = None  # the folder of a run whose parameters it begins with; {label} and {seed} are this run's
    registry: str | None = None  # a yaml file of further rows
    out: str | None = None
    backbone: Backbone = field(default_factory=Backbone)
    train: Train = field(default_factory=Train)


@dataclass
class Comparison:
    """Runs that differ in the mixer and the seed alone."""

    task: str = "python"
    mixers: Any = field(default_factory=lambda: ["gtu", "softmax"])
    seeds: Any = 3  # a number of seeds, or a list of them
    match: str | None = None  # parameters: the channel mixers' width is solved so that parameters agree
    block: str | None = None
    start: str | None = None
    workers: int | None = None  # runs at a time; null: two on a CPU with two cores or more, else one
    registry: str | None = None
    out: str = "runs/comparison"
    backbone: Backbone = field(default_factory=Backbone)
    train: Train = field(default_factory=Train)


@dataclass
class Speed:
    """Training steps of mixers at several lengths, timed: the same settings for all but the mixer and the length."""

    task: str = "python"
    mixers: Any = None  # as in a comparison; null: every row
    lengths: Any = field(default_factory=lambda: [512, 1024, 2048])
    block: str | None = None
    registry: str | None = None
    out: str | None = None  # a csv file
    backbone: Backbone = field(default_factory=Backbone)
    train: Train = field(default_factory=Train)


def load(schema: type, arguments: list[str]) -> Any:
    """The settings of a command as an object of `schema` with one more section, `data`, of the task's own options.

    Later sources win: defaults, the task's recipe, config=file.yaml (the user's or one of ours), key=value arguments.
    Raises UserError for unknown keys, tasks and values of another type.
    """
    given = _parse(arguments)
    file = given.pop("config", None)
    content = _read_settings(str(file)) if file else {}
    for source in (content, given):
        if isinstance(source.get("mixer"), str):
            source["mixer"] = {"name": source["mixer"]}
        elif "mixer" in source and not isinstance(source["mixer"], dict):
            raise UserError(f"mixer={source['mixer']} must be a name, such as mixer=gtu")
    task = given.get("task", content.get("task", "python"))
    if task not in tasks.names():
        raise UserError(f"unknown task {task!r}{did_you_mean(str(task), tasks.names())}")
    layers = [read_mapping(tasks.recipe(task)), content, given]
    return _merge(schema, task, layers)


def _read_settings(name: str) -> dict[str, Any]:
    """The content of a settings file of the user's, or else of one in experiments/settings; a registry that it names
    lies beside it.

    Raises UserError.
    """
    path = Path(name) if Path(name).exists() else SETTINGS / name
    if not path.is_file():
        files = [file for file in sorted(SETTINGS.glob("*/*.yaml")) if not file.match("*.registry.yaml")]
        shipped = [file.relative_to(SETTINGS).as_posix() for file in files]
        raise UserError(f"config={name} is no file, and not one that comes with mixerzoo{did_you_mean(name, shipped)}")
    content = read_mapping(path)
    if content.get("registry") is not None:
        content["registry"] = str((path.parent / str(content["registry"])).resolve())
    return content


def restore(schema: type, content: dict[str, Any]) -> Any:
    """The settings that a run or a comparison saved."""
    return _merge(schema, content["task"], [content])


def plain(settings: Any) -> dict[str, Any]:
    """Settings as nested dicts and lists, to be saved."""
    container = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _merge(schema: type, task: str, layers: list[dict[str, Any]]) -> Any:
    data = tasks.data_options(task)
    whole = make_dataclass(schema.__name__, [("data", data, field(default_factory=data))], bases=(schema,))
    config = OmegaConf.structured(whole)
    try:
        for layer in layers:
            if "mixers" in layer:  # a list gives way to a mapping, and the other way round
                config = OmegaConf.merge(config, {"mixers": None})
            config = OmegaConf.merge(config, layer)
        settings: Any = OmegaConf.to_object(config)
    except ConfigKeyError as error:
        raise UserError(_unknown_key(config, str(error.full_key))) from error
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{key}{one_line(error).split(' full_key:')[0]}") from error
    _check_numbers(settings)
    if settings.train.accumulate > settings.train.batch:
        raise UserError(
            f"train.accumulate={settings.train.accumulate} must be at most train.batch={settings.train.batch}, "
            "which it is a split of"
        )
    return settings


def _unknown_key(config: Any, key: str) -> str:
    section = key.rpartition(".")[0]
    known = [f"{section}.{sibling}".lstrip(".") for sibling in OmegaConf.select(config, section) if section] or list(
        config
    )
    near = did_you_mean(key, [str(sibling) for sibling in known])
    return f"unknown key {key!r}{near}"


def _parse(arguments: list[str]) -> dict[str, Any]:
    """key=value arguments as nested dicts; values are YAML."""
    result: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
            raise UserError(f"{argument!r} is not of the form key=value")
        _place(result, key, parse_value(key, text))
    return result


def parse_value(key: str, text: str) -> Any:
    """The value of a key=value argument: YAML, and 1e-3 is a number.

    Raises UserError.
    """
    try:
        return yaml.load(text, Loader=_Loader) if text else ""
    except yaml.YAMLError as error:
        raise UserError(f"{key}: {text!r} is not a value: {one_line(error)}") from error


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _place(result: dict[str, Any], key: str, value: Any) -> None:
    if key == "mixer" and isinstance(value, str):
        key = "mixer.name"
    *path, last = key.split(".")
    for part in path:
        result = result.setdefault(part, {})
        if not isinstance(result, dict):
            raise UserError(f"{key}: {part} already has a value")
    if isinstance(value, dict) and isinstance(result.get(last), dict):
        result[last] |= value
    else:
        result[last] = value


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a yaml file.

    Raises UserError where it cannot be read or maps nothing.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must map keys to values")
    return {str(key): value for key, value in content.items()}


NORMS = ("rms", "layer", "scale", "batch")
_AT_LEAST = {
    **dict.fromkeys(["dim", "depth", "batch", "accumulate", "tokens", "redraw", "validations", "length"], 1),
    **dict.fromkeys(["workers", "threads", "validation_bytes", "test_bytes", "width"], 1),
    **dict.fromkeys(["head_width", "validated", "bytes"], 1),
    **dict.fromkeys(["weight_decay", "checkpoint_seconds", "seed"], 0),
}
_ABOVE_ZERO = ("learning_rate", "clip", "clip_value", "epsilon", "embedding_std", "ratio")
_SHARES = ("dropout", "drop_path", "warmup", "final")
_CHOICES = {
    "match": (None, "parameters"),
    "block": (None, "paper"),
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "float32", "bfloat16"),
    "channel": CHANNELS,
    "norm": NORMS,
    "final_norm": (None, *NORMS),
    "embedding_norm": (None, *NORMS),
    "position": ("row", *POSITIONS),
    "pooling": ("mean", "padded_mean", "first", "last"),
    "schedule": tuple(SCHEDULES),
}


def _check_numbers(settings: Any, section: str = "") -> None:
    """Raise UserError for a value out of its range."""
    for entry in fields(settings):
        value, key = getattr(settings, entry.name), f"{section}{entry.name}"
        if hasattr(value, "__dataclass_fields__"):
            _check_numbers(value, f"{key}.")
        elif entry.name in _CHOICES and value not in _CHOICES[entry.name]:
            choices = ", ".join("null" if choice is None else choice for choice in _CHOICES[entry.name])
            raise UserError(f"{key}={value} must be one of {choices}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise UserError(f"{key}={value} must be finite")
            if entry.name in _AT_LEAST and not value >= _AT_LEAST[entry.name]:
                raise UserError(f"{key}={value} must be at least {_AT_LEAST[entry.name]}")
            if entry.name in _ABOVE_ZERO and not value > 0:
                raise UserError(f"{key}={value} must be above 0")
            if entry.name in _SHARES and not 0 <= value <= 1:
                raise UserError(f"{key}={value} must lie between 0 and 1")
            if entry.name in ("beta1", "beta2", "ema") and not 0 <= value < 1:
                raise UserError(f"{key}={value} must lie in [0, 1)")
