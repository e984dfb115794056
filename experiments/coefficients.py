"""The Toeplitz coefficients of a trained model, small enough to be kept with its results."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.assemble import model_mixers
from mixers.contract import Mixer
from mixers.toeplitz.coefficients import DecayingCoefficients
from mixers.toeplitz.mixer import OperatorMixer
from mixers.toeplitz.operator import Operator

SHOWN = 64
"""Tokens of the matrix that is drawn."""

FURTHER = 16
"""How many times the training length the lags go."""

LONGEST = 16384
"""The longest length that is looked at, where training was not longer."""


@torch.no_grad()
def coefficients(model: nn.Module, length: int, *, causal: bool) -> dict[str, Any]:
    """{mixer: {matrix_lags, matrix, lags, size, undecayed}} of the mixers that are Toeplitz matrices.

    `matrix` is the mean over channels of |t| at `matrix_lags`, at the training length; `size` the same at lags up to 16
    times as long, where the mixer reaches so far; `undecayed` is size without TNN's decay, where there is one.
    """
    found = {}
    for name, mixer in model_mixers(model):
        near = mixer.toeplitz(length)
        if near is not None:
            shown = min(SHOWN, length)
            present = 0 if causal else length - 1
            first = 0 if causal else 1 - shown
            far, lags = _far(mixer, length, causal)
            found[name] = {
                "matrix_lags": list(range(first, shown)),
                "matrix": _sizes(near[present + first : present + shown]),
                "lags": lags.tolist(),
                "size": _sizes(far[lags]),
                "undecayed": _undecayed(mixer, lags, len(far)),
            }
    return found


def toeplitz_source(mixer: Mixer) -> DecayingCoefficients | None:
    """The module that gives a TNN mixer's coefficients; None for other mixers."""
    operator = mixer.operator if isinstance(mixer, OperatorMixer) else None
    source = operator.coefficients if isinstance(operator, Operator) else None
    return source if isinstance(source, DecayingCoefficients) else None


def _far(mixer: Mixer, length: int, causal: bool) -> tuple[Tensor, np.ndarray]:
    """The coefficients of lags 0 .. M-1, as far as the mixer reaches, and the lags to keep: first all, then fewer."""
    reach = max(length, min(FURTHER * length, LONGEST))
    near, far = _forward_lags(mixer, length, causal), _forward_lags(mixer, length, causal)
    with suppress(ValueError):  # a mixer that ends at its training length
        far = _forward_lags(mixer, reach, causal)
    if not torch.allclose(far[:length], near, rtol=1e-3, atol=1e-3 * near.abs().max().item()):
        far = near  # coefficients that depend on N: those of training alone
    reach = len(far)
    spread = np.geomspace(SHOWN, reach - 1, 100).round().astype(int) if reach > SHOWN else []
    lags = np.unique([*range(min(SHOWN, reach)), *spread])
    return far, lags


def _forward_lags(mixer: Mixer, length: int, causal: bool) -> Tensor:
    """The coefficients of lags 0 .. N-1."""
    found = mixer.toeplitz(length)
    assert found is not None
    return found if causal else found[length - 1 :]


def _undecayed(mixer: Mixer, lags: np.ndarray, length: int) -> list[float] | None:
    source = toeplitz_source(mixer)
    if source is None:
        return None
    present = 0 if source.causal else length - 1
    return _sizes(source.undecayed(length)[present + torch.from_numpy(lags)])


def _sizes(values: Tensor) -> list[float]:
    """The mean over channels of |t| at each lag, to four digits."""
    return [float(f"{value:.4g}") for value in values.abs().mean(1).tolist()]
