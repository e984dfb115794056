"""Where the coefficients of a Toeplitz operator come from: modules from a length to its coefficients.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.3.
Shapes: N length, M = N lags when causal (0 .. N-1), else M = 2N-1 (-(N-1) .. N-1), D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixers.ops.precision import wide
from mixers.toeplitz.rpe import RelativePositionEncoder


class EncodedCoefficients(nn.Module):
    """t[k] = RPE(k) decay(|k|). They do not depend on N, so they decode, unless the encoder's inputs do."""

    longest: int | None = None

    def __init__(self, rpe: RelativePositionEncoder, decay: nn.Module, *, causal: bool):
        super().__init__()
        self.rpe, self.decay, self.causal = rpe, decay, causal

    def forward(self, length: int) -> Tensor:
        """(M, D) in at least float32."""
        device = next(self.parameters()).device
        lags = torch.arange(0 if self.causal else 1 - length, length, device=device)
        encoded = self.rpe(lags, length)
        return encoded * self.decay(lags, encoded.dtype)


class FreeCoefficients(nn.Module):
    """t[k] = weight[k] decay(|k|): one parameter a lag and channel, for N up to `longest` (table 9)."""

    def __init__(self, dim: int, decay: nn.Module, *, causal: bool, longest: int):
        super().__init__()
        if longest < 1:
            raise ValueError(f"length={longest} must be at least 1")
        self.causal, self.longest, self.decay = causal, longest, decay
        self.weight = nn.Parameter(torch.empty(longest if causal else 2 * longest - 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform, of the size that a linear layer from N tokens to one would have."""
        nn.init.uniform_(self.weight, -(self.longest**-0.5), self.longest**-0.5)

    def forward(self, length: int) -> Tensor:
        """(M, D) in at least float32.

        Raises ValueError for an N beyond `longest`.
        """
        if length > self.longest:
            raise ValueError(f"N={length} is beyond length={self.longest}, for which the coefficients were built")
        first = 0 if self.causal else self.longest - length
        weight = self.weight[first : self.longest - 1 + length if not self.causal else length].to(wide(self.weight))
        lags = torch.arange(0 if self.causal else 1 - length, length, device=weight.device)
        return weight * self.decay(lags, weight.dtype)
