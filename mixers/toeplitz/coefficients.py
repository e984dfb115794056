"""Where the coefficients of a Toeplitz operator come from: modules from a length to its coefficients.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: N length, M = N lags when causal (0 .. N-1), else M = 2N-1 (-(N-1) .. N-1), D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixers.ops.encoder import Lags
from mixers.ops.precision import wide
from mixers.toeplitz.decay import Decay
from mixers.toeplitz.rpe import RelativePositionEncoder


class DecayingCoefficients(nn.Module):
    """t[k] = what `undecayed` gives at lag k, times decay^|k|. `longest` is the largest N, None where there is none."""

    def __init__(self, decay: Decay, *, causal: bool, longest: int | None):
        super().__init__()
        self.decay, self.causal, self.longest = decay, causal, longest

    def undecayed(self, length: int) -> Tensor:
        """The coefficients (M, D) without the decay, in at least float32."""
        raise NotImplementedError

    def lags(self, length: int) -> Lags:
        """The M lags."""
        return Lags(length) if self.causal else Lags(max(2 * length - 1, 0), 1.0 - length)

    def forward(self, length: int) -> Tensor:
        """The coefficients (M, D) in at least float32."""
        values = self.undecayed(length)
        return values * self.decay(self.lags(length).like(values), values.dtype)


class EncodedCoefficients(DecayingCoefficients):
    """t[k] = RPE(k) decay^|k|, for every N."""

    def __init__(self, rpe: RelativePositionEncoder, decay: Decay, *, causal: bool):
        super().__init__(decay, causal=causal, longest=None)
        self.rpe = rpe

    def undecayed(self, length: int) -> Tensor:
        return self.rpe(self.lags(length), length)

    def forward(self, length: int) -> Tensor:
        return self.rpe(self.lags(length), length, self.decay)


class FreeCoefficients(DecayingCoefficients):
    """t[k] = weight[k] decay^|k|: one parameter a lag and channel, for N up to `longest` (table 9)."""

    def __init__(self, dim: int, decay: Decay, *, causal: bool, longest: int):
        super().__init__(decay, causal=causal, longest=longest)
        if longest < 1:
            raise ValueError(f"length={longest} must be at least 1")
        self.weight = nn.Parameter(torch.empty(longest if causal else 2 * longest - 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform, of the size that a linear layer from `longest` tokens to one would have."""
        assert self.longest is not None
        nn.init.uniform_(self.weight, -(self.longest**-0.5), self.longest**-0.5)

    def undecayed(self, length: int) -> Tensor:
        assert self.longest is not None
        if length > self.longest:
            raise ValueError(f"N={length} is beyond length={self.longest}, for which the coefficients were built")
        first = 0 if self.causal else self.longest - length  # where the lowest lag stands
        return self.weight[first : first + self.lags(length).count].to(wide(self.weight))
