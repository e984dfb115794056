"""The Toeplitz neural operator (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.2).

Shapes: B batch, N length, D dim.
"""

from mixers.toeplitz.coefficients import EncodedCoefficients, FreeCoefficients
from mixers.toeplitz.decay import make_decay
from mixers.toeplitz.mixer import Bare, DecodingMixer
from mixers.toeplitz.operator import Operator
from mixers.toeplitz.rpe import RelativePositionEncoder, require_lag_alone


class ToeplitzOperator(DecodingMixer):
    """y = T x, one Toeplitz matrix a channel: T[i, j] = decay^|i - j| RPE(i - j), zero for j > i when causal.

    `decay` lies in (0, 1], 1 means none; with learn_decay each channel learns its own between `decay` and 1. rpe_input
    is integer (the lag) or sincos. Decodes in O(log N) amortised reads a token.
    """

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        decay: float = 0.99,
        learn_decay: bool = False,
        rpe_width: int = 64,
        rpe_layers: int = 6,
        rpe_input: str = "integer",
        rpe_activation: str = "relu",
        rpe_norm: str = "rms",
        rpe_residual: bool = False,
        backend: str = "auto",
    ):
        rpe = RelativePositionEncoder(
            dim,
            width=rpe_width,
            layers=rpe_layers,
            inputs=require_lag_alone(rpe_input),
            activation=rpe_activation,
            norm=rpe_norm,
            residual=rpe_residual,
        )
        coefficients = EncodedCoefficients(rpe, make_decay(dim, decay, learn_decay), causal=causal)
        super().__init__(Bare(), Operator(coefficients, causal=causal, backend=backend))


class FreeToeplitzOperator(DecodingMixer):
    """y = T x with T[i, j] = decay^|i - j| t[i - j], t learned directly, one parameter a lag (table 9); N <= length."""

    def __init__(self, dim: int, *, causal: bool, length: int, decay: float = 0.99, backend: str = "auto"):
        coefficients = FreeCoefficients(dim, make_decay(dim, decay, False), causal=causal, longest=length)
        super().__init__(Bare(), Operator(coefficients, causal=causal, backend=backend))
