"""The gated attention unit against its equations, score by score."""

import math

import pytest
import torch
from torch import Tensor

from mixers import build
from mixers.attention.gated import LearnedBias, RotaryBias


def heads(mixer, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u, v (N, E) and rotated q, k (N, S) of x (N, D), token by token, in complex numbers."""
    parts = mixer.projections
    hidden = x @ parts.hidden.weight.T + parts.hidden.bias
    hidden = hidden * torch.sigmoid(hidden)
    inner = parts.out.weight.shape[1]
    u, v, z = hidden[:, :inner], hidden[:, inner : 2 * inner], hidden[:, 2 * inner :]
    q, k = (
        torch.stack([turn(z[i] * w + b, i) for i in range(len(x))])
        for w, b in zip(parts.scale, parts.offset, strict=True)
    )
    return u, v, q, k


def turn(vector: Tensor, position: int) -> Tensor:
    """Channels 2c and 2c + 1 as a complex number, times e^(i position 10000^(-2c / S))."""
    pairs = torch.view_as_complex(vector.reshape(-1, 2).contiguous())
    angles = [position * 10000 ** (-c / len(pairs)) for c in range(len(pairs))]
    turns = torch.tensor([complex(math.cos(a), math.sin(a)) for a in angles], dtype=pairs.dtype)
    return torch.view_as_real(pairs * turns).flatten()


def table(mixer, lag: int) -> Tensor:
    """The learned bias of a lag."""
    return mixer.bias.weight[lag if mixer.causal else lag + mixer.length - 1]


def expected(mixer, x: Tensor, divisor: float, bias) -> Tensor:
    """Equation 4 with the constants of code 1, one score at a time; bias(i, j)."""
    u, v, q, k = heads(mixer, x)
    rows = []
    for i in range(len(x)):
        seen = range(i + 1) if mixer.causal else range(len(x))
        scores = [q[i] @ k[j] / divisor + bias(i, j) for j in seen]
        mixed = sum(max(score, score * 0) ** 2 * v[j] for score, j in zip(scores, seen, strict=True))
        rows.append(mixer.projections.out(u[i] * mixed))
    return torch.stack(rows)


def moved(name: str, **options):
    """A mixer in float64, its parameters of a size at which queries, keys and biases all matter."""
    mixer = build(name, 6, expand=1.5, head_dim=4, **options).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return mixer


@pytest.mark.parametrize("name", ["gau", "gau_tnn"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 7, 11])
def test_up_to_length_scores_are_over_length_with_a_learned_bias(name: str, causal: bool, length: int):
    mixer, x = moved(name, causal=causal, length=11), torch.randn(length, 6, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], expected(mixer, x, 11, lambda i, j: table(mixer, i - j)))


@pytest.mark.parametrize("causal", [True, False])
def test_the_bias_of_long_sequences_is_a_product_of_rotated_vectors(causal: bool):
    mixer, x = moved("gau", causal=causal, length=513), torch.randn(9, 6, dtype=torch.float64)
    assert isinstance(mixer.bias, RotaryBias)
    bias = lambda i, j: turn(mixer.bias.a, i) @ turn(mixer.bias.b, j)  # noqa: E731
    torch.testing.assert_close(mixer(x[None])[0], expected(mixer, x, 513, bias))


@pytest.mark.parametrize("causal", [True, False])
def test_beyond_length_the_comparisons_form_divides_by_n_and_has_no_bias(causal: bool):
    mixer, x = moved("gau_tnn", causal=causal, length=5), torch.randn(9, 6, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], expected(mixer, x, 9, lambda i, j: 0))


@pytest.mark.parametrize("causal", [True, False])
def test_beyond_length_the_comparisons_form_counts_real_tokens(causal: bool):
    mixer, x = moved("gau_tnn", causal=causal, length=5), torch.randn(3, 9, 6, dtype=torch.float64)
    real = torch.tensor([9, 4, 7])
    y = mixer(x, torch.arange(9) < real[:, None])
    for row, count in enumerate(real.tolist()):
        torch.testing.assert_close(y[row, :count], mixer(x[row : row + 1, :count])[0])


def test_parameters_are_the_papers():
    mixer = build("gau", 64, causal=False, length=512)
    assert isinstance(mixer.bias, LearnedBias)
    shapes = {name: tuple(tensor.shape) for name, tensor in mixer.named_parameters()}
    assert shapes == {
        "projections.hidden.weight": (2 * 128 + 128, 64),
        "projections.hidden.bias": (2 * 128 + 128,),
        "projections.scale": (2, 128),
        "projections.offset": (2, 128),
        "projections.out.weight": (64, 128),
        "projections.out.bias": (64,),
        "bias.weight": (1023,),
    }
    for name, tensor in mixer.named_parameters():
        if name.endswith(("weight", "scale")):
            assert tensor.std().item() == pytest.approx(0.02, rel=0.15)
        else:
            assert not tensor.any()
    assert build("gau", 64, causal=True, length=512).bias.weight.shape == (512,)


def test_linear_layers_of_the_comparisons_form_start_as_torchs():
    hidden = build("gau_tnn", 64, causal=True, length=512).projections.hidden
    assert hidden.weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 3}, "gau: head_dim=3 must be even and at least 2"),
        ({"expand": 0.1}, "gau: expand=0.1 times dim=6 must be at least 1"),
        ({"length": 0}, "gau: length=0 must be at least 1"),
    ],
)
def test_bad_keywords_get_one_clear_line(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build("gau", 6, causal=True, **{"length": 8, **options})


def test_decoding_ends_at_length():
    mixer = build("gau", 6, causal=True, length=3)
    _, state = mixer.prefill(torch.zeros(1, 3, 6))
    with pytest.raises(ValueError, match="N=4 is beyond length=3"):
        mixer.step(torch.zeros(1, 6), state)
