"""Find, describe and build mixers by name. The names live in registry.yaml alone; reading it imports no torch."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

if TYPE_CHECKING:
    from mixers.contract import Layer, Mixer

CLAIMS = (
    "causal",
    "bidirectional",
    "prefix",
    "any_length",
    "padding",
    "step",
    "constant_state",
    "linear",
    "shift",
)
"""What a row may claim; mixers/laws holds one law for each."""

IMPLIED = {"constant_state": "step", "step": "prefix", "prefix": "causal"}
"""Each claim and the claim that it implies."""

NEEDS = ("length", "grid", "layer")
CHANNELS = ("glu", "ffn", "none")
POSITIONS = ("none", "sinusoidal", "learned")
"""What a row may ask of the backbone; a test holds both equal to the tables in backbones/channel.py."""


@dataclass(frozen=True)
class Card:
    """One row of the registry."""

    name: str
    target: str
    family: str
    paper: str
    about: str
    keywords: dict[str, Any]
    claims: tuple[str, ...]
    needs: tuple[str, ...]
    block: dict[str, Any]
    position: str
    match: str
    time: str
    state: str


def names(claim: str | None = None, *, registry: str | None = None) -> list[str]:
    """The names of all rows, or of those that claim `claim`; `registry` is a yaml file of further rows.

    Raises KeyError for a claim that does not exist.
    """
    if claim is not None and claim not in CLAIMS:
        raise KeyError(f"unknown claim {claim!r}{did_you_mean(claim, CLAIMS)}")
    return [name for name, row in _rows(registry).items() if claim is None or claim in row.claims]


def card(name: str, *, registry: str | None = None) -> Card:
    """The row called `name`.

    Raises KeyError for a name that does not exist.
    """
    rows = _rows(registry)
    if name not in rows:
        raise KeyError(f"unknown mixer {name!r}{did_you_mean(name, rows)}")
    return rows[name]


def build(
    name: str,
    dim: int,
    *,
    causal: bool,
    length: int | None = None,
    grid: tuple[int, int] | None = None,
    layer: Layer | None = None,
    registry: str | None = None,
    **overrides: Any,
) -> Mixer:
    """Construct the mixer called `name` for (B, N, dim).

    length is the largest N, grid is (H, W) with N = H * W, layer is the place in the model: a row that needs one of
    them must get it, the others leave it aside. `overrides` replace the row's keywords.
    Raises KeyError for an unknown name or keyword and ValueError for a form, need or value that the row does not allow.
    """
    row = card(name, registry=registry)
    require_form(row, causal)
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise ValueError(f"dim={dim!r} must be a whole number of at least 1")
    mixer_class = load_class(row.target)
    check_overrides(row, overrides, mixer_class)
    given = {"length": length, "grid": grid, "layer": layer}
    missing = [need for need in row.needs if given[need] is None]
    if missing:
        raise ValueError(f"{name} needs {missing[0]}=")
    arguments = {**row.keywords, **overrides, **{need: given[need] for need in row.needs}}
    if "causal" in inspect.signature(mixer_class).parameters:
        arguments["causal"] = causal
    try:
        return mixer_class(dim, **arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except Exception as error:  # a plug-in's constructor may fail in any way
        raise ValueError(f"cannot build {name}: {type(error).__name__}: {error}") from error


def require_form(row: Card, causal: bool) -> None:
    """Raise ValueError where the row does not claim the form."""
    form = "causal" if causal else "bidirectional"
    if form not in row.claims:
        raise ValueError(f"{row.name} has no {form} form; it claims {', '.join(row.claims)}")


def check_overrides(row: Card, overrides: dict[str, Any], mixer_class: type[Mixer]) -> None:
    """Raise KeyError for a keyword that the row's class does not have, ValueError for a value of another type."""
    parameters = inspect.signature(mixer_class).parameters
    reserved = {"dim", "causal", *NEEDS}
    known = {key: value.default for key, value in parameters.items() if key not in reserved}
    for key, value in overrides.items():
        if key not in known:
            raise KeyError(f"{row.name} has no keyword {key!r}{did_you_mean(key, known)}")
        default = row.keywords.get(key, known[key])
        if default is not inspect.Parameter.empty and default is not None and not _same_kind(value, default):
            raise ValueError(f"{row.name}: {key}={value!r} must be of type {type(default).__name__}, as {default!r} is")


def load_class(target: str) -> Any:
    """The class at `family.module.Class` inside mixers/, or at `package.module:Class` anywhere.

    Raises ValueError with one line where it cannot be imported.
    """
    module, _, name = target.partition(":") if ":" in target else (f"mixers.{target}".rpartition("."))
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # a plug-in may fail in any way while it is imported
        raise ValueError(f"cannot import {target}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"cannot import {target}: it is no class but {found!r}")
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known words, or all of them."""
    known = [str(name) for name in known]
    near = difflib.get_close_matches(word, known, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(known)}" if known else "; there are none"


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, int) and isinstance(value, float):
        return False
    return isinstance(value, type(default))


def _rows(registry: str | None) -> dict[str, Card]:
    """The rows of the project, of installed plug-ins, and of the file `registry`; a name may occur once."""
    rows = dict(_installed_rows())
    if registry is not None:
        _add(rows, _read(Path(registry)))
    return rows


@functools.cache
def _installed_rows() -> dict[str, Card]:
    rows = _read(_home())
    for entry in importlib.metadata.entry_points(group="mixerzoo.registries"):
        _add(rows, _read(Path(entry.load())))
    return rows


def _home() -> Path:
    """registry.yaml beside this package's code in a wheel, or in the folder above it in the repository."""
    package = Path(__file__).parent
    beside, above = package / "registry.yaml", package.parent / "registry.yaml"
    return beside if beside.exists() else above


def _add(rows: dict[str, Card], more: dict[str, Card]) -> None:
    for name, row in more.items():
        if name in rows:
            raise ValueError(f"the mixer {name!r} stands in two registries; rename the row that you add")
        rows[name] = row


def _read(path: Path) -> dict[str, Card]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the registry {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"the registry {path} must map names to rows")
    return {str(name): _card(str(name), row, path) for name, row in content.items()}


def _card(name: str, row: Any, path: Path) -> Card:
    """A row as a Card, its keys and claims checked."""
    where = f"{path.name}, row {name}"
    keys = ["class", *[key for key in Card.__dataclass_fields__ if key not in ("name", "target")]]
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row maps {', '.join(keys)} to values")
    for key in row:
        if key not in keys:
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(str(key), keys)}")
    for key in ("class", "about", "claims"):
        if key not in row:
            raise ValueError(f"{where}: the key {key!r} is missing")
    optional = {"family": "plug-in", "paper": "", "keywords": {}, "needs": [], "match": "none", "time": "", "state": ""}
    optional |= {"block": {"channel": "glu", "ratio": 1}, "position": "none"}
    values = {**optional, **{key: value for key, value in row.items() if key != "class"}}
    for key, known in (("claims", CLAIMS), ("needs", NEEDS)):
        for word in values[key]:
            if word not in known:
                raise ValueError(f"{where}: unknown word {word!r} in {key}{did_you_mean(str(word), known)}")
        values[key] = tuple(values[key])
    if values["position"] not in POSITIONS:
        raise ValueError(f"{where}: position {values['position']!r} must be one of {', '.join(POSITIONS)}")
    block = values["block"]
    if not isinstance(block, dict) or set(block) != {"channel", "ratio"} or block["channel"] not in CHANNELS:
        raise ValueError(f"{where}: block must be of the form {{channel: {' | '.join(CHANNELS)}, ratio: NUMBER}}")
    for claim, implied in IMPLIED.items():
        if claim in values["claims"] and implied not in values["claims"]:
            raise ValueError(f"{where}: claims {claim}, which implies {implied}, but does not claim {implied}")
    return Card(name=name, target=str(row["class"]), **values)
