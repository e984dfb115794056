"""cosFormer against its quadratic definition."""

import math

import pytest
import torch
from torch import Tensor

from mixers import build


def quadratic(mixer, x: Tensor, *, reach: int, floor: float, causal: bool) -> Tensor:
    """The definition, row by row: weights over their sum; x (N, 8), two heads."""
    length = len(x)
    q, k, v = mixer.qkv(x).reshape(length, 3, 2, 4).unbind(1)
    mixed = torch.zeros(length, 2, 4, dtype=x.dtype)
    for head in range(2):
        for i in range(length):
            seen = range(i + 1) if causal else range(length)
            weights = [q[i, head].relu() @ k[j, head].relu() * math.cos(math.pi / 2 * (i - j) / reach) for j in seen]
            total = max(sum(weights), floor)
            mixed[i, head] = sum(weight * v[j, head] for weight, j in zip(weights, seen, strict=True)) / total
    return mixer.out(mixed.reshape(length, 8))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 11, 16])
def test_cosformer_is_the_quadratic_one(length: int, causal: bool):
    torch.manual_seed(0)
    mixer = build("cosformer", 8, causal=causal, length=16, heads=2, chunk=4).double()
    x = torch.randn(length, 8, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], quadratic(mixer, x, reach=16, floor=1e-6, causal=causal))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 11, 16])
@pytest.mark.parametrize("scale", [1, 0.01])  # small enough, and a denominator is below 1e-4
def test_cosformer_tnn_is_the_quadratic_one_over_the_current_length(length: int, causal: bool, scale: float):
    torch.manual_seed(0)
    mixer = build("cosformer_tnn", 8, causal=causal, heads=2, chunk=4).double()
    torch.nn.init.zeros_(mixer.qkv.bias)
    x = scale * torch.randn(length, 8, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], quadratic(mixer, x, reach=length, floor=1e-4, causal=causal))


def test_a_query_without_positive_features_gets_nothing():
    mixer = build("cosformer", 8, causal=True, length=16, heads=2)
    with torch.no_grad():
        mixer.qkv.weight[:8] = 0
        mixer.qkv.bias[:8] = -1
    torch.testing.assert_close(mixer(torch.randn(1, 5, 8)), mixer.out.bias.expand(1, 5, 8))


def test_signs_are_not_left_to_the_rounding_of_bfloat16():
    """Two features a head: many queries have one that is barely positive, and the output jumps there."""
    torch.manual_seed(0)
    mixer, x = build("cosformer", 8, causal=False, length=5000), torch.randn(1, 5000, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x).float()
    assert (y - mixer(x)).abs().max() < 0.05 * y.abs().max()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("row", ["cosformer", "cosformer_tnn"])
def test_the_size_of_a_query_gets_no_gradient(row: str, causal: bool):
    """One feature a head, so the size is all there is of a query, and it cancels: also in float32, also where small."""
    torch.manual_seed(0)
    mixer = build(row, 8, causal=causal, length=13, heads=8)
    with torch.no_grad():
        mixer.qkv.weight[:16].abs_().mul_(0.01)  # queries, and keys that are all positive
        mixer.qkv.bias[:16] = 0
        mixer.qkv.weight[8:16] *= 1000
    x = torch.rand(2, 13, 8)
    (mixer(x) * torch.randn(2, 13, 8)).sum().backward()
    gradient = mixer.qkv.bias.grad
    assert gradient is not None
    assert gradient[:8].abs().max() < 1e-6 * gradient.abs().max()


def test_cosformer_tnn_starts_as_in_the_comparison():
    """Values from Xavier's uniform distribution with gain 1 / sqrt(2), the output with gain 1, its bias zero."""
    mixer = build("cosformer_tnn", 64, causal=True)
    for weight, gain in ((mixer.qkv.weight[128:], math.sqrt(0.5)), (mixer.out.weight, 1)):
        bound = gain * math.sqrt(6 / 128)
        assert 0.98 * bound < weight.abs().max() <= bound
    assert not mixer.out.bias.any()


def test_the_weights_end_at_length():
    mixer = build("cosformer", 8, causal=True, length=3)
    x = torch.randn(1, 4, 8)
    with pytest.raises(ValueError, match="N=4 is beyond length=3"):
        mixer(x)
    _, state = mixer.prefill(x[:, :3])
    with pytest.raises(ValueError, match="N=4 is beyond length=3"):
        mixer.step(x[:, 3], state)


@pytest.mark.parametrize("row", ["cosformer", "cosformer_tnn"])
@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"chunk": 0}, "chunk=0 must be"), ({"heads": 3}, "heads=3 must divide")],
)
def test_bad_keywords_get_one_clear_line(row: str, keywords: dict, message: str):
    with pytest.raises(ValueError, match=f"{row}: {message}") as caught:
        build(row, 8, causal=True, length=4, **keywords)
    assert "\n" not in str(caught.value)


def test_a_length_of_nothing_is_refused():
    with pytest.raises(ValueError, match="length=0 must be at least 1"):
        build("cosformer", 8, causal=True, length=0)
