"""The Toeplitz neural operator (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.2).

Shapes: B batch, N length, D dim.
"""

import torch
from torch import Tensor

from mixers.contract import Mixer, State, fill_pads, require_causal
from mixers.ops.precision import wide
from mixers.ops.toeplitz import toeplitz_backend, toeplitz_matmul
from mixers.toeplitz.rpe import RelativePositionEncoder


class ToeplitzOperator(Mixer):
    """y = T x, one Toeplitz matrix a channel: T[i, j] = decay^|i - j| RPE(i - j), zero for j > i when causal.

    `decay` lies in (0, 1]; 1 means none. Decodes from the history of its inputs: O(N) a token.
    """

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        decay: float = 0.99,
        rpe_width: int = 64,
        rpe_layers: int = 6,
        backend: str = "auto",
    ):
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} must lie in (0, 1]")
        self.causal, self.backend = causal, toeplitz_backend(backend)
        self.rpe = RelativePositionEncoder(dim, width=rpe_width, layers=rpe_layers)
        self.decay: Tensor
        self.register_buffer("decay", torch.full((dim,), decay))

    def coefficients(self, length: int) -> Tensor:
        """The coefficients (N or 2N-1, D) of lags 0 .. N-1 when causal, -(N-1) .. N-1 otherwise."""
        lags = torch.arange(0 if self.causal else 1 - length, length, device=self.decay.device)
        encoded = self.rpe(lags)
        return encoded * self.decay.to(encoded.dtype) ** lags.abs()[:, None]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        return toeplitz_matmul(self.coefficients(x.shape[1]), x, causal=self.causal, backend=self.backend)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return {"values": self.decay.new_zeros(batch_size, 0, self.decay.shape[0])}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        return self(x), {"values": x}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        values = torch.cat([state["values"].to(x.dtype), x[:, None]], dim=1)  # (B, N, D)
        by_position = self.coefficients(values.shape[1]).flip(0)  # (N, D): the newest value has lag 0
        dtype = wide(values, by_position)
        y = torch.einsum("nd,bnd->bd", by_position.to(dtype), values.to(dtype))
        return y.to(x.dtype), {"values": values}

    def backend_for(self, x: Tensor, mask: Tensor | None = None) -> str:
        return self.backend
