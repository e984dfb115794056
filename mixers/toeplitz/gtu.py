"""The gated Toeplitz unit of TNN (Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 3.1).

Shapes: B batch, N length, D dim, E = expand * D inner width.
"""

from mixers.toeplitz.coefficients import EncodedCoefficients, FreeCoefficients
from mixers.toeplitz.decay import make_decay
from mixers.toeplitz.mixer import DecodingMixer, Gated, OperatorMixer
from mixers.toeplitz.operator import Operator
from mixers.toeplitz.rpe import RelativePositionEncoder, require_lag_alone


class GatedToeplitzUnit(DecodingMixer):
    """y = W_o (u * T v) with u = act(W_u x), v = act(W_v x) of width `expand` times dim, T as in ToeplitzOperator."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        expand: float = 3.0,
        activation: str = "silu",
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
        gated = Gated(dim, expand=expand, activation=activation)
        rpe = RelativePositionEncoder(
            gated.inner,
            width=rpe_width,
            layers=rpe_layers,
            inputs=require_lag_alone(rpe_input),
            activation=rpe_activation,
            norm=rpe_norm,
            residual=rpe_residual,
        )
        coefficients = EncodedCoefficients(rpe, make_decay(gated.inner, decay, learn_decay), causal=causal)
        super().__init__(gated, Operator(coefficients, causal=causal, backend=backend))


class NormalisedGatedToeplitzUnit(OperatorMixer):
    """The gated unit whose encoder sees (i - j) / N instead of i - j (table 8): at every N it is another function."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        expand: float = 3.0,
        decay: float = 0.99,
        rpe_width: int = 64,
        rpe_layers: int = 6,
        backend: str = "auto",
    ):
        gated = Gated(dim, expand=expand)
        rpe = RelativePositionEncoder(gated.inner, width=rpe_width, layers=rpe_layers, inputs="normalised")
        coefficients = EncodedCoefficients(rpe, make_decay(gated.inner, decay, False), causal=causal)
        super().__init__(gated, Operator(coefficients, causal=causal, backend=backend))


class FreeGatedToeplitzUnit(DecodingMixer):
    """The gated unit with coefficients learned directly, one parameter a lag and channel (table 9); N <= length."""

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        length: int,
        expand: float = 3.0,
        decay: float = 0.99,
        backend: str = "auto",
    ):
        gated = Gated(dim, expand=expand)
        decays = make_decay(gated.inner, decay, False)
        coefficients = FreeCoefficients(gated.inner, decays, causal=causal, longest=length)
        super().__init__(gated, Operator(coefficients, causal=causal, backend=backend))
