"""Any row of the registry with its token mixing replaced by the identity."""

from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.files import write_text
from mixers import build, card
from mixers.contract import Mixer

SUFFIX = "_alone"
ONE_TOKEN: dict[str, dict[str, Any]] = {
    "flash": {"chunk": 1},
    "flash_tnn": {"chunk": 1},
    "long_short": {"window": 1, "chunk": 1},
}
"""Rows that fill up each sequence to a chunk or a window: here as long as one token, else a step takes seconds. Flash's
scale over the chunk's size follows it, and its biases of longer lags, which one token has no use for, fall away."""


class Alone(Mixer):
    """The mixer `of`, causal, given every token as a sequence of its own: (B, N, D) as (B * N, 1, D).

    Projections, gates and parameters are the row's (but see ONE_TOKEN); no token meets another. The row's own positions
    are those of the first place; the backbone's stay.
    """

    def __init__(self, dim: int, length: int, of: str):
        super().__init__()
        self.mixer = build(of, dim, causal=True, length=length, **ONE_TOKEN.get(of, {}))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.mixer(x.reshape(-1, 1, x.shape[-1])).reshape(x.shape)

    def toeplitz(self, length: int) -> Tensor | None:
        return None


def write_registry(path: Path, names: list[str]) -> None:
    """A registry file with a row NAME_alone for each name, at the positions that the row itself asks for."""
    rows: list[str] = []
    for name in names:
        entry: dict[str, Any] = {
            "class": "benchmarks.alone:Alone",
            "about": f"{name} without token mixing",
            "keywords": f"{{of: {name}}}",
            "claims": "[causal]",
            "needs": "[length]",
            "position": card(name).position,
        }
        rows += [f"{name}{SUFFIX}:", *(f"  {key}: {value}" for key, value in entry.items())]
    write_text(path, "\n".join(rows) + "\n")
