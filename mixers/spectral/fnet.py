"""FNet (Lee-Thorp et al., NAACL 2022, https://arxiv.org/abs/2105.03824).

Shapes: B batch, N length, D dim.
"""

import torch
from torch import Tensor

from mixers.contract import Mixer, fill_pads
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
