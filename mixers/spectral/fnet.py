"""FNet (Lee-Thorp et al., NAACL 2022, https://arxiv.org/abs/2105.03824).

Shapes: B batch, N length, D dim.
"""

import torch
from torch import Tensor

from mixers.contract import Mixer, fill_pads
from mixers.ops.masked_fourier import masked_transform
from mixers.ops.precision import wide


class FourierMixer(Mixer):
    """y = Re(FFT over tokens of FFT over channels of x), unnormalised (equation 3). It has no parameters.

    The frequencies depend on N, so pads count as zero tokens: their number matters, their content does not.
    """

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        filled = fill_pads(x, mask)
        return torch.fft.fft2(filled.to(wide(x)), dim=(1, 2)).real.to(x.dtype)


class MaskedFourierMixer(Mixer):
    """The causal FNet of the TNN paper's code: y = Re(M* x M^T), orthonormal before both matrices were masked.

    Masked to i >= j are the Fourier matrix M over channels too, as in that code, and its conjugate M* over tokens. The
    frequencies depend on N: a prefix has other outputs.
    """

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        channels = masked_transform(fill_pads(x, mask).transpose(1, 2)).transpose(1, 2)
        return masked_transform(channels, conjugate=True).real.to(x.dtype)
