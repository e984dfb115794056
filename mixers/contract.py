"""What every token mixer is.

Shapes: B batch, N length, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

State = Any
"""Nested tuples, lists or dicts of tensors (batch first) and Python ints; nothing in it is derived from parameters."""


@dataclass(frozen=True)
class Layer:
    """Where a mixer stands in its model: `index` of `depth`, and the parameters that all layers share."""

    index: int
    depth: int
    shared: nn.ParameterDict


class Mixer(nn.Module):
    """A token mixer: (B, N, D) -> (B, N, D), with its own projections and gates.

    Residual, surrounding norm, dropout, absolute positions and the channel mixer belong to the backbone.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix x (B, N, D). mask (B, N) is True at real tokens and False at right padding; None means no padding."""
        raise NotImplementedError

    def init_state(self, batch_size: int) -> State:
        """The state before the first token."""
        raise NotImplementedError(f"{type(self).__name__} does not decode token by token")

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        """forward(x) from the empty state, and the state after its N tokens: by steps, unless a mixer knows better."""
        state, outputs = self.init_state(len(x)), [x[:, :0]]
        for token in x.unbind(1):
            y, state = self.step(token, state)
            outputs.append(y[:, None])
        return torch.cat(outputs, dim=1), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One token: x (B, D) and the state before it give y (B, D) and the state after it. Consumes `state`."""
        raise NotImplementedError(f"{type(self).__name__} does not decode token by token")

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        """{parameter name: {"lr": upper bound, "weight_decay": value}} for parameters that need their own."""
        return {}

    def redraw(self, generator: torch.Generator) -> None:
        """Draw random features anew; the trainer calls it between steps."""

    def toeplitz(self, length: int) -> Tensor | None:
        """The coefficients by which the mixer weighs tokens, where that is one Toeplitz matrix a channel, else None.

        (N, channels) for lags 0 .. N-1 when causal, (2N-1, channels) for lags -(N-1) .. N-1 otherwise. Raises
        ValueError for an N that the mixer does not serve.
        """
        return None

    def backend_for(self, x: Tensor, mask: Tensor | None = None) -> str | None:
        """The backend that forward(x, mask) would run, where the mixer has a choice."""
        return None


def fill_pads(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, N, ...) with zeros at pads. It replaces rather than multiplies, so a NaN in a pad reaches no real token."""
    if mask is None:
        return x
    return x.masked_fill(~mask.reshape(*mask.shape, *[1] * (x.dim() - 2)), 0)


def require_causal(mixer: nn.Module, causal: bool) -> None:
    """Refuse to decode with a bidirectional mixer."""
    if not causal:
        raise ValueError(f"{type(mixer).__name__} was built with causal=False and cannot decode token by token")


def split_heads(dim: int, heads: int) -> int:
    """The width of one head.

    Raises ValueError where `heads` does not divide `dim`.
    """
    if heads < 1 or dim % heads:
        raise ValueError(f"heads={heads} must divide dim={dim}")
    return dim // heads


def state_tensors(state: State) -> Iterator[Tensor]:
    """Every tensor of a state, in order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from state_tensors(value)
    elif isinstance(state, (tuple, list)):
        for value in state:
            yield from state_tensors(value)
