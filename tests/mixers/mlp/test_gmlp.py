"""gMLP against an independent package and against the paper's equations, token by token."""

import pytest
import torch
import torch.nn.functional as F
from g_mlp_pytorch.g_mlp_pytorch import gMLPBlock
from torch import Tensor

from mixers import build
from mixers.contract import Mixer

LENGTH, DIM = 12, 6


def moved(name: str, causal: bool) -> Mixer:
    """The mixer with all parameters standard normal."""
    mixer = build(name, DIM, causal=causal, length=LENGTH, expand=4.0).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_()
    return mixer


def by_loops(mixer: Mixer, x: Tensor, causal: bool) -> Tensor:
    """Y = s(GELU(X U)) V, s(Z) = Z1 * (W Z2 + b) with Z2 normalised (equations 1 to 4), for one sequence (N, D)."""
    half = mixer.out.in_features
    z = torch.stack([F.gelu(mixer.inner.weight @ token + mixer.inner.bias) for token in x])
    values = []
    for row in z[:, half:]:
        centred = row - row.mean()
        values.append(centred / (centred.square().mean() + 1e-5).sqrt() * mixer.norm.weight + mixer.norm.bias)
    outputs = []
    for i in range(len(x)):
        gate = torch.zeros(half, dtype=x.dtype)
        for j in range(i + 1 if causal else len(x)):
            gate = gate + mixer.weight[i, j] * values[j]
        if mixer.bias is not None:
            gate = gate + mixer.bias[i]
        outputs.append(mixer.out.weight @ (z[i, :half] * gate) + mixer.out.bias)
    return torch.stack(outputs)


@pytest.mark.parametrize("length", [1, 7, LENGTH])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", ["gmlp", "gmlp_tnn"])
def test_gmlp_is_the_papers_equations(name: str, causal: bool, length: int):
    mixer, x = moved(name, causal), torch.randn(2, length, DIM, dtype=torch.float64)
    expected = torch.stack([by_loops(mixer, sequence, causal) for sequence in x])
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize(("causal", "length"), [(True, 1), (True, 7), (True, LENGTH), (False, LENGTH)])
def test_gmlp_is_that_of_g_mlp_pytorch(causal: bool, length: int):
    """The package has no bidirectional form for fewer tokens than positions."""
    mixer, x = moved("gmlp", causal), torch.randn(2, length, DIM, dtype=torch.float64)
    block = gMLPBlock(dim=DIM, dim_ff=4 * DIM, seq_len=LENGTH, causal=causal).double()
    own = {"inner": "proj_in.0", "norm": "sgu.norm", "out": "proj_out"}
    state = {
        f"{theirs}.{part}": getattr(mixer.get_submodule(ours), part)
        for ours, theirs in own.items()
        for part in ("weight", "bias")
    }
    block.load_state_dict({**state, "sgu.weight": mixer.weight[None], "sgu.bias": mixer.bias[None]})
    torch.testing.assert_close(mixer(x), block(x))


def test_gmlp_starts_as_a_feed_forward_network():
    """W near zero and b one: at first a token's output is that of the token alone."""
    mixer = build("gmlp", DIM, causal=False, length=LENGTH)
    assert {name: tuple(tensor.shape) for name, tensor in mixer.named_parameters()} == {
        "weight": (LENGTH, LENGTH),
        "bias": (LENGTH,),
        "inner.weight": (6 * DIM, DIM),
        "inner.bias": (6 * DIM,),
        "norm.weight": (3 * DIM,),
        "norm.bias": (3 * DIM,),
        "out.weight": (DIM, 3 * DIM),
        "out.bias": (DIM,),
    }
    assert mixer.weight.abs().max() < 1e-3
    assert torch.equal(mixer.bias, torch.ones(LENGTH))
    x = torch.randn(1, LENGTH, DIM)
    torch.testing.assert_close(mixer(x), mixer.out(F.gelu(mixer.inner(x))[..., : 3 * DIM]))


def test_gmlp_of_the_comparison_has_no_bias_and_starts_as_a_linear_layer():
    mixer = build("gmlp_tnn", 8, causal=True, length=100)
    assert mixer.bias is None
    assert "bias" not in mixer.state_dict()
    assert mixer.out.in_features == 16
    assert 0.095 < mixer.weight.abs().max() <= 0.1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"expand": 0.2}, "gmlp: expand=0.2 times dim=6 must be at least 2"),
        ({"length": 0}, "gmlp: length=0 must be at least 1"),
    ],
)
def test_bad_keywords(keywords: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build("gmlp", DIM, causal=True, **{"length": LENGTH, **keywords})


def test_decoding_ends_at_the_length():
    mixer = moved("gmlp", causal=True)
    _, state = mixer.prefill(torch.randn(1, LENGTH, DIM, dtype=torch.float64))
    with pytest.raises(ValueError, match="N=13 is beyond length=12"):
        mixer.step(torch.randn(1, DIM, dtype=torch.float64), state)
