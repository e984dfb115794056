"""A Toeplitz operator from a module of coefficients: the product, decoding, and what evaluation keeps.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.2.
Shapes: B batch, N length, M lags, D channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mixers.contract import State, fill_pads, require_causal
from mixers.ops import online
from mixers.ops.toeplitz import Prepared, prepare, require_toeplitz_backend, toeplitz_backend, toeplitz_matmul
from mixers.toeplitz.kept import Keeper


class Operator(Keeper):
    """y = T x with T[i, j] = t[i - j], one matrix a channel; `coefficients` gives t (M, D) for a length."""

    def __init__(self, coefficients: nn.Module, *, causal: bool, backend: str = "auto"):
        super().__init__()
        self.coefficients: Any = coefficients
        self.causal = causal
        self.backend = require_toeplitz_backend(backend)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, silu: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D) in the strides of x, of SiLU(x) if asked; pads (mask False) count as zeros."""
        x = fill_pads(x, mask)
        length = x.shape[1]
        backend = toeplitz_backend(self.backend, x)
        if backend != "dense" and x.numel():
            return toeplitz_matmul(self._prepared(length, x, backend), x, causal=self.causal, silu=silu)
        return toeplitz_matmul(self.coefficients(length), x, causal=self.causal, backend=backend, silu=silu)

    def backend_for(self, x: Tensor) -> str:
        """The backend that forward(x) runs."""
        return toeplitz_backend(self.backend, x)

    def toeplitz(self, length: int) -> Tensor:
        """The coefficients (M, D)."""
        return self.coefficients(length)

    def init_state(self, batch_size: int) -> State:
        """The state before the first token.

        Raises ValueError where the operator is bidirectional.
        """
        require_causal(self, self.causal)
        return online.start()

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        """forward(x), and the state after its N tokens."""
        require_causal(self, self.causal)
        return self(x), online.remember(x, self._lags)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One token (B, D), in O(log N) amortised reads a channel.

        Raises ValueError beyond the last lag that the coefficients have.
        """
        longest = self.coefficients.longest
        if longest is not None and state["tokens"] >= longest:
            raise ValueError(f"token {state['tokens'] + 1} is beyond length={longest}")
        return online.advance(x, state, self._lags)

    def _prepared(self, length: int, x: Tensor, backend: str) -> Prepared:
        key = (length, backend, x.dtype, x.device)

        def compute() -> tuple[tuple, Prepared]:
            return key, prepare(self.coefficients(length), length, x.dtype, backend=backend)

        return self.keep("product", lambda kept: kept[0] == key, compute)[1]

    def _lags(self, count: int) -> Tensor:
        """The coefficients (count, D) of lags 0 .. count-1, zero where they end."""
        lags = online.truncated(self.coefficients, self.coefficients.longest)
        return self.keep("lags", lambda kept: len(kept) >= count, lambda: lags(count))[:count]
