"""Adaptive Fourier neural operators (Guibas et al., ICLR 2022, https://arxiv.org/abs/2111.13587, section 4).

Shapes: B batch, N tokens, H and W the grid, D dim, K blocks, C = D / K, M all frequencies of a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, fill_pads
from mixers.ops.frequencies import from_frequencies, to_frequencies
from mixers.ops.grid import off_grid, on_grid, require_grid
from mixers.ops.masked_fourier import masked_transform
from mixers.ops.precision import wide, without_autocast


class _AdaptiveOperator(Mixer):
    """y = x + irfft(shrink(W_2 relu(W_1 X + b_1) + b_2)) with X = rfft(x), orthonormal.

    W_1 and W_2 are complex, block-diagonal, and the same at all frequencies. relu and the soft threshold
    shrink(z) = sign(z) max(|z| - threshold, 0) work on real and imaginary parts apart. The sum with x is the layer's
    own, beside the residual of a block.
    """

    def __init__(self, dim: int, *, blocks: int, threshold: float):
        super().__init__()
        if blocks < 1 or dim % blocks:
            raise ValueError(f"blocks={blocks} must divide dim={dim}")
        if threshold < 0:
            raise ValueError(f"threshold={threshold} must not be negative")
        self.blocks, self.threshold = blocks, threshold
        width = dim // blocks
        self.weight_1 = nn.Parameter(torch.empty(blocks, width, width, 2))  # K, C in, C out, real and imaginary
        self.bias_1 = nn.Parameter(torch.empty(blocks, width, 2))
        self.weight_2 = nn.Parameter(torch.empty(blocks, width, width, 2))
        self.bias_2 = nn.Parameter(torch.empty(blocks, width, 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, 0.02 wide, as in the authors' code."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def mix(self, x: Tensor) -> Tensor:
        """The operator over all axes between batch and channels: x (B, ..., D)."""
        with without_autocast(x):
            return x + from_frequencies(self.layers(to_frequencies(x)), x.shape[-2]).to(x.dtype)

    def layers(self, spectrum: Tensor) -> Tensor:
        """Both layers and the threshold: complex (B, ..., D)."""
        parts = torch.view_as_real(spectrum).reshape(-1, self.blocks, 2 * spectrum.shape[-1] // self.blocks)
        hidden = F.relu(_layer(parts.transpose(0, 1), self.weight_1, self.bias_1))  # (K, M, 2 C)
        parts = F.softshrink(_layer(hidden, self.weight_2, self.bias_2), self.threshold)
        return torch.view_as_complex(parts.transpose(0, 1).reshape(*spectrum.shape, 2))


def _layer(parts: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Complex W z + b, block by block, on real tensors (K, M, 2 C) in which real and imaginary parts take turns."""
    dtype = wide(parts, weight)
    rows = torch.view_as_complex(weight.to(dtype))  # what a real part of 1 gives; an imaginary one gives i times that
    matrix = torch.view_as_real(torch.stack([rows, 1j * rows], dim=2)).flatten(3).flatten(1, 2)  # (K, 2 C, 2 C)
    return torch.baddbmm(bias.to(dtype).flatten(1)[:, None], parts.to(dtype), matrix)


class AdaptiveFourierOperator(_AdaptiveOperator):
    """AFNO over a sequence. The frequencies depend on N, so pads count as zero tokens: their number matters."""

    def __init__(self, dim: int, *, blocks: int = 8, threshold: float = 0.01):
        super().__init__(dim, blocks=blocks, threshold=threshold)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.mix(fill_pads(x, mask))


class MaskedAdaptiveFourierOperator(_AdaptiveOperator):
    """The causal AFNO of the TNN paper's code: both transforms are masked matrices, over all N frequencies.

    y = x + Re(M* shrink(W_2 relu(W_1 M x + b_1) + b_2)), M the masked matrix and M* the masked conjugate. The
    frequencies depend on N: a prefix has other outputs.
    """

    def __init__(self, dim: int, *, blocks: int = 8, threshold: float = 0.01):
        super().__init__(dim, blocks=blocks, threshold=threshold)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        with without_autocast(x):
            return x + masked_transform(self.layers(masked_transform(x)), conjugate=True).real.to(x.dtype)


class GridAdaptiveFourierOperator(_AdaptiveOperator):
    """AFNO over a grid. Fewer tokens than H W leave the places after them empty (zeros)."""

    def __init__(self, dim: int, *, grid: tuple[int, int], blocks: int = 8, threshold: float = 0.01):
        super().__init__(dim, blocks=blocks, threshold=threshold)
        self.grid = require_grid(grid)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return off_grid(self.mix(on_grid(x, mask, self.grid)), x.shape[1])
