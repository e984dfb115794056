"""S4D, the diagonal state space model (Gu et al., NeurIPS 2022, https://arxiv.org/abs/2206.11893).

Shapes: B batch, N length, D dim, S state / 2 conjugate pairs; one state space a channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import Mixer, State, fill_pads, require_causal
from mixers.ops.exponentials import exponential_state, exponential_sum
from mixers.ops.precision import wide, without_autocast
from mixers.ops.toeplitz import toeplitz_matmul


class DiagonalStateSpace(Mixer):
    """s_i = exp(dt A) s_{i-1} + x_i, y_i = 2 Re sum(C (exp(dt A) - 1) / A s_i) + skip x_i, then GELU, Linear and GLU.

    Zero-order hold with B = 1 (section 3), A = -exp(log_decay) + i frequency, started at S4D-Lin: -1/2 + i pi n
    (section 4.3). When bidirectional, a second kernel runs over the tokens after the present one. `state` is even.
    Decodes with a constant state.
    """

    def __init__(self, dim: int, *, causal: bool, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1):
        super().__init__()
        if state < 2 or state % 2:
            raise ValueError(f"state={state} must be even and at least 2")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"dt_min={dt_min} and dt_max={dt_max} must satisfy 0 < dt_min <= dt_max")
        self.causal, self.dt_range = causal, (dt_min, dt_max)
        pairs = state // 2
        self.log_dt = nn.Parameter(torch.empty(dim, 1))
        self.log_decay = nn.Parameter(torch.empty(dim, pairs))
        self.frequency = nn.Parameter(torch.empty(dim, pairs))
        self.readout = nn.Parameter(torch.empty(1 if causal else 2, dim, pairs, 2))  # C, real and imaginary
        self.skip = nn.Parameter(torch.empty(dim))
        self.out = nn.Linear(dim, 2 * dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """S4D-Lin for A, log-uniform steps dt, standard normal C and skip."""
        low, high = (math.log(bound) for bound in self.dt_range)
        nn.init.uniform_(self.log_dt, low, high)
        nn.init.constant_(self.log_decay, math.log(0.5))
        with torch.no_grad():
            self.frequency.copy_(math.pi * torch.arange(self.frequency.shape[1]).expand_as(self.frequency))
        nn.init.normal_(self.readout, std=0.5**0.5)  # a complex standard normal
        nn.init.normal_(self.skip)

    def optimizer_rules(self) -> dict[str, dict[str, float]]:
        """The state space moves slowly and does not decay (the authors' recipe)."""
        return {name: {"lr": 1e-3, "weight_decay": 0.0} for name in ("log_dt", "log_decay", "frequency")}

    def _discretise(self) -> tuple[Tensor, Tensor]:
        """dt A (D, S) and the discrete C (exp(dt A) - 1) / A (kernels, D, S), complex, in at least float32."""
        dtype = wide(self.skip)
        a = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))
        rate = a * self.log_dt.to(dtype).exp()
        return rate, torch.view_as_complex(self.readout.to(dtype)) * (rate.exp() - 1) / a

    def kernel(self, length: int) -> Tensor:
        """The impulse responses (kernels, N, D) of the present and past, and of the future when bidirectional."""
        rate, readout = self._discretise()
        return 2 * exponential_sum(rate, readout, length)

    def _coefficients(self, length: int) -> Tensor:
        kernels = self.kernel(length)
        if self.causal:
            return kernels[0]
        return torch.cat([kernels[1, : length - 1].flip(0), kernels[0]])  # lag -1 has the second kernel's first value

    def toeplitz(self, length: int) -> Tensor:
        coefficients = self._coefficients(length)
        present = 0 if self.causal else length - 1
        skip = torch.zeros_like(coefficients)
        skip[present] = self.skip
        return coefficients + skip

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = fill_pads(x, mask)
        with without_autocast(x):
            y = toeplitz_matmul(self._coefficients(x.shape[1]), x, causal=self.causal)
        return self._output(y, x)

    def _output(self, y: Tensor, x: Tensor) -> Tensor:
        return F.glu(self.out(F.gelu(y + self.skip * x)), dim=-1)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        return {"sums": torch.zeros(batch_size, *self.frequency.shape, **self._complex())}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        rate, _ = self._discretise()
        return self(x), {"sums": exponential_state(rate, x)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        rate, readout = self._discretise()
        sums = rate.exp() * state["sums"] + x.to(rate.dtype)[..., None]  # (B, D, S)
        y = 2 * torch.einsum("ds,bds->bd", readout[0], sums).real
        return self._output(y.to(x.dtype), x), {"sums": sums}

    def _complex(self) -> dict:
        return {"dtype": torch.complex(*[torch.zeros((), dtype=wide(self.skip))] * 2).dtype, "device": self.skip.device}
