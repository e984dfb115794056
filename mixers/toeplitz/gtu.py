"""The gated Toeplitz unit of TNN (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.1).

Shapes: B batch, N length, D dim, E = expand * D inner width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State
from mixers.toeplitz.tno import ToeplitzOperator


class GatedToeplitzUnit(Mixer):
    """y = W_o (u * T v) with u = SiLU(W_u x), v = SiLU(W_v x) of width `expand` times dim, T as in ToeplitzOperator."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        expand: float = 3,
        decay: float = 0.99,
        rpe_width: int = 64,
        rpe_layers: int = 6,
        backend: str = "auto",
    ):
        super().__init__()
        inner = int(expand * dim)
        if inner < 1:
            raise ValueError(f"expand={expand} times dim={dim} must be at least 1")
        self.gate = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.tno = ToeplitzOperator(
            inner, causal=causal, decay=decay, rpe_width=rpe_width, rpe_layers=rpe_layers, backend=backend
        )
        self.out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed = self.tno(F.silu(self.value(x)), mask)  # the operator fills the pads, after the projection's bias
        return self.out(F.silu(self.gate(x)) * mixed)

    def init_state(self, batch_size: int) -> State:
        return self.tno.init_state(batch_size)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        mixed, state = self.tno.prefill(F.silu(self.value(x)))
        return self.out(F.silu(self.gate(x)) * mixed), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        mixed, state = self.tno.step(F.silu(self.value(x)), state)
        return self.out(F.silu(self.gate(x)) * mixed), state

    def backend_for(self, x: Tensor, mask: Tensor | None = None) -> str | None:
        return self.tno.backend_for(x, mask)
