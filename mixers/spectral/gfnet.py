"""GFNet's global filter (Rao et al., NeurIPS 2021, https://arxiv.org/abs/2107.00645, section 3.2).

Shapes: B batch, N tokens, L length, H and W the grid, D dim, F = L // 2 + 1 or W // 2 + 1 frequencies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, fill_pads
from mixers.ops.fourier import circular_product
from mixers.ops.frequencies import from_frequencies, to_frequencies
from mixers.ops.grid import off_grid, on_grid, require_grid
from mixers.ops.masked_fourier import masked_transform
from mixers.ops.precision import wide


class _GlobalFilter(Mixer):
    """Learned gains of the frequencies, channel by channel: `filter` (..., F, D, 2), real and imaginary parts."""

    def __init__(self, dim: int, *frequencies: int):
        super().__init__()
        self.filter = nn.Parameter(torch.empty(*frequencies, dim, 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, 0.02 wide, as in the authors' code."""
        nn.init.normal_(self.filter, std=0.02)

    def gains(self, x: Tensor) -> Tensor:
        """The complex filter (..., F, D), as precise as x and at least float32."""
        return torch.view_as_complex(self.filter.to(wide(self.filter, x)))


class GlobalFilter(_GlobalFilter):
    """y = irfft(K * rfft(x)) over `length` places: a circular convolution with one learned kernel a channel.

    Fewer tokens leave the places after them empty (zeros), and their outputs are the first N: lags i - j count modulo
    `length`, so at N = length the end of the sequence is the neighbour of its beginning. Imaginary parts of K at
    frequency 0, and at length / 2, do nothing.
    """

    def __init__(self, dim: int, *, length: int):
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        super().__init__(dim, length // 2 + 1)
        self.length = length

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._require(x.shape[1])
        return circular_product(self.gains(x).T, fill_pads(x, mask), self.length)

    def toeplitz(self, length: int) -> Tensor:
        self._require(length)
        kernel = torch.fft.irfft(self.gains(self.filter), self.length, dim=0)  # (L, D)
        return kernel[torch.arange(1 - length, length, device=kernel.device) % self.length]

    def _require(self, tokens: int) -> None:
        if tokens > self.length:
            raise ValueError(f"N={tokens} is beyond length={self.length}")


class _CurrentLengthFilter(_GlobalFilter):
    """`length` gains, of which N tokens take the first, beyond `length` 0. Every N has frequencies of its own."""

    def __init__(self, dim: int, *, length: int):
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        super().__init__(dim, length)

    def _first(self, count: int, x: Tensor) -> Tensor:
        """The gains (count, D) of as many frequencies."""
        gains = self.gains(x)[:count]
        return F.pad(gains, (0, 0, 0, count - len(gains)))


class CurrentLengthGlobalFilter(_CurrentLengthFilter):
    """The global filter of the TNN paper's comparison: y = irfft(K * rfft(x)) over N places, with N // 2 + 1 gains."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        return from_frequencies(self._first(x.shape[1] // 2 + 1, x) * to_frequencies(x), x.shape[1]).to(x.dtype)


class MaskedGlobalFilter(_CurrentLengthFilter):
    """The causal global filter of the TNN paper's code: y = Re(M* (K * M x)) with N gains.

    M is the Fourier matrix masked to i >= j and M* its masked conjugate. A prefix has other outputs.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        return masked_transform(self._first(x.shape[1], x) * masked_transform(x), conjugate=True).real.to(x.dtype)


class GridGlobalFilter(_GlobalFilter):
    """y = irfft2(K * rfft2(x)) over a grid: a circular convolution along both axes with one kernel a channel.

    Fewer tokens than H W leave the places after them empty (zeros).
    """

    def __init__(self, dim: int, *, grid: tuple[int, int]):
        height, width = require_grid(grid)
        super().__init__(dim, height, width // 2 + 1)
        self.grid = height, width

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        spectrum = self.gains(x) * to_frequencies(on_grid(x, mask, self.grid))
        return off_grid(from_frequencies(spectrum, self.grid[1]), x.shape[1]).to(x.dtype)
