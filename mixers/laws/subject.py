"""What a law is applied to: a way to build one mixer, and one drawn example of it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixers.contract import Layer, Mixer
from mixers.registry import NEEDS, build, card, load_class

LONGEST = 40
"""The largest N that the laws draw by default, and the `length` that mixers are built with that need one."""

DRAWS = 20
"""How many mixers may be drawn until one shows a dependence: where a ReLU weighs tokens, it may shut all of one's."""


@dataclass(frozen=True)
class Example:
    """Small numbers that a law is tried with; hypothesis shrinks them."""

    batch: int
    length: int
    cut: int  # splits the length: 1 <= cut < length, where length > 1
    chunk: int  # replaces every chunk size of the mixer
    training: bool
    seed: int


@dataclass(frozen=True)
class Subject:
    """A mixer to be tried: its constructor, its forms and what it claims (None: nothing is known of it)."""

    name: str
    constructor: Callable[..., Mixer]  # (causal, length, layer, chunks) -> Mixer; a grid has `length` places
    forms: tuple[bool, ...]
    claims: frozenset[str] | None
    chunks: tuple[str, ...]  # keywords that hold a chunk size
    sizes: tuple[int, ...]  # whole numbers among the keywords: lengths around them are worth trying
    bounded: bool  # whether it is built with the largest N
    dim: int

    @staticmethod
    def of_row(name: str, *, registry: str | None = None, dim: int = 8) -> Subject:
        """The registry's row `name`."""
        row = card(name, registry=registry)

        def constructor(causal: bool, length: int, layer: Layer, chunks: dict[str, int]) -> Mixer:
            overrides: dict[str, Any] = dict(chunks)
            needs: dict[str, Any] = {"length": length, "grid": _grid(length), "layer": layer}
            return build(name, dim, causal=causal, registry=registry, **needs, **overrides)

        forms = tuple(causal for causal, form in ((True, "causal"), (False, "bidirectional")) if form in row.claims)
        chunks, sizes = _sizes(load_class(row.target), row.keywords)
        bounded = bool({"length", "grid"} & set(row.needs))
        return Subject(name, constructor, forms, frozenset(row.claims), chunks, sizes, bounded, dim)

    @staticmethod
    def of_class(
        mixer_class: Callable[..., Mixer], *, claims: Iterable[str] | None = None, dim: int = 8, **keywords: Any
    ) -> Subject:
        """Any class, built as mixer_class(dim, **keywords), with causal, length, grid and layer where it takes them."""
        parameters = inspect.signature(mixer_class).parameters
        claimed = None if claims is None else frozenset(claims)

        def constructor(causal: bool, length: int, layer: Layer, chunks: dict[str, int]) -> Mixer:
            offered = {"causal": causal, "length": length, "grid": _grid(length), "layer": layer}
            taken = {key: value for key, value in offered.items() if key in parameters and key not in keywords}
            return mixer_class(dim, **taken, **{**keywords, **chunks})

        forms = (
            (True, False) if "causal" in parameters and "causal" not in keywords else (keywords.get("causal", True),)
        )
        if claimed is not None and "causal" not in parameters and "bidirectional" in claimed:
            forms = (False,)  # the one form that it has
        if len(forms) == 2 and claimed is not None:
            forms = tuple(form for form in forms if ("causal" if form else "bidirectional") in claimed) or forms
        return Subject(
            mixer_class.__name__,
            constructor,
            forms,
            claimed,
            *_sizes(mixer_class, keywords),
            bool({"length", "grid"} & set(parameters)),
            dim,
        )


def _grid(length: int) -> tuple[int, int]:
    """A grid of `length` places, as square as can be."""
    height = next(height for height in range(math.isqrt(length), 0, -1) if length % height == 0)
    return height, length // height


def _sizes(cls: Callable[..., Mixer], keywords: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of a constructor's chunk sizes, and the values of all its whole numbers up to 256."""
    parameters = inspect.signature(cls).parameters.values()
    values = {p.name: keywords.get(p.name, p.default) for p in parameters if p.name not in ("dim", *NEEDS)}
    chunks = tuple(name for name in values if ("chunk" in name and name not in keywords) or name == "chunk")
    sizes = {value for value in values.values() if type(value) is int and 1 < value <= 256}
    return chunks, tuple(sorted(sizes))


@dataclass(frozen=True)
class Trial:
    """One law's attempt at one form of a subject with one example. Everything it draws depends on the seed alone."""

    subject: Subject
    causal: bool
    example: Example

    @staticmethod
    def plain(subject: Subject, causal: bool) -> Trial:
        """A trial of the simplest example."""
        return Trial(subject, causal, Example(batch=1, length=1, cut=1, chunk=1, training=False, seed=0))

    @property
    def split(self) -> tuple[int, int]:
        """A length of at least 2 and a cut inside it."""
        return max(self.example.length, 2), max(self.example.cut, 1)

    def fresh(self, *, length: int = LONGEST, seed: int = 0) -> Mixer:
        """The mixer as its constructor leaves it."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.example.seed + seed)  # torch.manual_seed is slow: GPUs too
            return self.construct(length=length)

    def longest(self, length: int = LONGEST) -> int:
        """The largest N that a mixer is built for: a multiple of 4, of which a grid has rows and columns."""
        return -(-max(length, self.example.length) // 4) * 4

    def construct(self, *, length: int = LONGEST) -> Mixer:
        """The mixer, drawn from the global generator as it stands."""
        layer = Layer(index=1, depth=3, shared=nn.ParameterDict())
        chunks = dict.fromkeys(self.subject.chunks, self.example.chunk)
        return self.subject.constructor(self.causal, self.longest(length), layer, chunks)

    def mixer(
        self, dtype: torch.dtype = torch.float64, *, length: int = LONGEST, seed: int = 0, spread: float = 1
    ) -> Mixer:
        """The mixer in eval mode, its parameters moved away from their initial values, `spread` times as far."""
        mixer = self.fresh(length=length, seed=seed).double()
        generator = torch.Generator().manual_seed(self.example.seed + seed)
        with torch.no_grad():
            for parameter in mixer.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter += spread * _noise_scale(parameter) * noise
        return mixer.to(dtype).eval()

    def draw(self, *shape: int, salt: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Standard normal numbers; another salt draws others."""
        generator = torch.Generator().manual_seed(1000 * self.example.seed + salt)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def x(self, length: int | None = None, *, salt: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """An input (B, N, D)."""
        length = self.example.length if length is None else length
        return self.draw(self.example.batch, length, self.subject.dim, salt=salt, dtype=dtype)

    def run(self, mixer: Mixer, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mixer(x, mask) under one fixed global seed, so that dropout falls alike in runs of equal shape."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.example.seed)
            return mixer(x, mask)


def _noise_scale(parameter: Tensor) -> float:
    """Half the spread of a parameter's entries, 0.5 where they are all equal."""
    spread = parameter.std(correction=0).item()
    return 0.5 * spread if spread > 1e-6 else 0.5
