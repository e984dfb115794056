"""Depthwise convolution: the CNN that TNN names as a special case (Qin et al., ICLR 2023,
https://arxiv.org/abs/2305.04749, section 3.4): a Toeplitz matrix with few diagonals.

Shapes: B batch, N length, D dim, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State, fill_pads, require_causal


class DepthwiseConvolution(Mixer):
    """y[i] = sum over k of w[k] x[i - k], channel by channel: lags 0 .. W-1 when causal, -(W-1) .. W-1 otherwise."""

    def __init__(self, dim: int, *, causal: bool, width: int = 4):
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} must be at least 1")
        self.causal, self.width = causal, width
        self.weight = nn.Parameter(torch.empty(dim, 1, width if causal else 2 * width - 1))  # oldest lag first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(taps), as torch.nn.Conv1d."""
        bound = self.weight.shape[-1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        reach = self.width - 1
        return self._convolve(F.pad(fill_pads(x, mask).transpose(1, 2), (reach, 0 if self.causal else reach)))

    def _convolve(self, padded: Tensor) -> Tensor:
        """(B, D, N + taps - 1) -> (B, N, D), without further padding."""
        if padded.shape[-1] < self.weight.shape[-1]:  # no token at all, which conv1d refuses
            return padded[..., :0].transpose(1, 2)
        return F.conv1d(padded, self.weight, groups=self.weight.shape[0]).transpose(1, 2)

    def toeplitz(self, length: int) -> Tensor:
        newest_first = self.weight[:, 0].flip(1).T  # (taps, D)
        first = 0 if self.causal else self.width - 1  # where lag 0 stands
        missing = max(length - self.width, 0)
        known = newest_first[max(first - length + 1, 0) : first + length]
        return F.pad(known, (0, 0, 0 if self.causal else missing, missing))

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return {"recent": self.weight.new_zeros(batch_size, self.width - 1, self.weight.shape[0])}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        recent = F.pad(x, (0, 0, self.width - 1, 0))[:, x.shape[1] :].clone()  # the last W-1 inputs alone
        return self(x), {"recent": recent}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state["recent"].to(x.dtype), x[:, None]], dim=1)  # (B, W, D)
        return self._convolve(window.transpose(1, 2))[:, 0], {"recent": window[:, 1:].clone()}
