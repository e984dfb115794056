"""GSS, gated state spaces (Mehta et al., ICLR 2023, https://arxiv.org/abs/2206.13947).

Shapes: B batch, N length, D dim, E = expand * D gated width, R = reduce * D reduced width, S state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State
from mixers.state_space.dss import require_state
from mixers.state_space.space import Diagonal, StateSpace


class _SimplifiedStateSpace(StateSpace):
    """The paper's simplified DSS: steps of 1, one lambda = -exp(log_decay) + i exp(log_frequency) for all channels.

    It runs on the normalised input. When bidirectional, the same kernel runs over the past and over the future, both
    with the present and with the skip.
    """

    def __init__(self, dim: int, *, causal: bool, state: int):
        super().__init__(dim, causal=causal)
        self.log_decay = nn.Parameter(torch.empty(state))
        self.log_frequency = nn.Parameter(torch.empty(state))
        self.readout = nn.Parameter(torch.empty(dim, state, 2))  # C, real and imaginary
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Everything is drawn from the standard normal distribution: no HiPPO."""
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def system(self, dtype: torch.dtype) -> Diagonal:
        rate = torch.complex(-self.log_decay.to(dtype).exp(), self.log_frequency.to(dtype).exp())
        readout = torch.view_as_complex(self.readout.to(dtype))
        return Diagonal(rate[None], (readout * (rate.exp() - 1) / rate)[None])

    def toeplitz(self, length: int) -> Tensor:
        kernel = self.kernel(length)[0]
        present, past = kernel[:1] + self.skip, kernel[1:]
        if self.causal:
            return torch.cat([present, past])
        return torch.cat([past.flip(0), 2 * present, past])


class GatedStateSpace(Mixer):
    """y = W_o (gelu(W_u x) * W_g DSS(norm(gelu(W_v x)))): u of width `expand` times dim, v of `reduce` times dim.

    Figure 1 of the paper; its norm and residual around all this belong to the backbone. The paper has the causal form;
    the bidirectional one is that of the TNN paper's comparison. Decodes with a constant state.
    """

    def __init__(self, dim: int, *, causal: bool, expand: float = 4.0, reduce: float = 0.25, state: int = 512):
        super().__init__()
        require_state(state)
        for name, factor in (("expand", expand), ("reduce", reduce)):
            if int(factor * dim) < 1:
                raise ValueError(f"{name}={factor} times dim={dim} must be at least 1")
        gated, reduced = int(expand * dim), int(reduce * dim)
        self.gate = nn.Linear(dim, gated, bias=False)
        self.value = nn.Linear(dim, reduced, bias=False)
        self.norm = nn.LayerNorm(reduced)
        self.space = _SimplifiedStateSpace(reduced, causal=causal, state=state)
        self.widen = nn.Linear(reduced, gated, bias=False)
        self.out = nn.Linear(gated, dim)

    def _values(self, x: Tensor) -> Tensor:
        """v (B, N, R), normalised."""
        return self.norm(F.gelu(self.value(x)))

    def _output(self, x: Tensor, mixed: Tensor) -> Tensor:
        """y (B, N, D) of x and of what the state space makes of v."""
        return self.out(F.gelu(self.gate(x)) * self.widen(mixed.to(x.dtype)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._output(x, self.space(self._values(x), mask))

    def toeplitz(self, length: int) -> Tensor:
        return self.space.toeplitz(length)

    def init_state(self, batch_size: int) -> State:
        return self.space.init_state(batch_size)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        mixed, state = self.space.prefill(self._values(x))
        return self._output(x, mixed), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        mixed, state = self.space.step(self._values(x), state)
        return self._output(x, mixed), state
