"""The Synthesizers against the paper's equations, position by position, and against SDPA."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixers import build
from mixers.contract import Mixer

LENGTH, DIM = 11, 6


def hidden(scores, x: Tensor, head: int, heads: int) -> list[float]:
    """relu(W1 x + b1), the part of one head."""
    rows = zip(scores.hidden.weight, scores.hidden.bias, strict=True)
    all_heads = [max(float(row @ x + bias), 0.0) for row, bias in rows]
    width = len(all_heads) // heads
    return all_heads[head * width : (head + 1) * width]


def affine(part, inputs: list[float], head: int, j: int) -> float:
    """[W2 inputs + b2]_j of one head."""
    column = part.weight[head, :, j].tolist()
    return sum(a * w for a, w in zip(inputs, column, strict=True)) + float(part.bias[head, 0, j])


def dense(scores, x: Tensor, i: int, j: int, head: int, heads: int) -> float:
    return affine(scores.columns, hidden(scores, x[i], head, heads), head, j)


def dense_factorised(scores, x: Tensor, i: int, j: int, head: int, heads: int) -> float:
    """11 positions in 3 blocks of 4, the last of which is cut."""
    inputs = hidden(scores, x[i], head, heads)
    return affine(scores.block, inputs, head, j // 4) * affine(scores.place, inputs, head, j % 4)


def random(scores, x: Tensor, i: int, j: int, head: int, heads: int) -> float:
    return float(scores.table[head, i, j])


def random_factorised(scores, x: Tensor, i: int, j: int, head: int, heads: int) -> float:
    row, column = scores.rows[head, i].tolist(), scores.columns[head, j].tolist()
    return sum(r * c for r, c in zip(row, column, strict=True))


SCORES = {
    "synthesizer_dense": (dense, {"heads": 2}),
    "synthesizer_dense_factorised": (dense_factorised, {"heads": 2, "blocks": 3}),
    "synthesizer_dense_tnn": (dense, {}),
    "synthesizer_random": (random, {"heads": 2}),
    "synthesizer_random_factorised": (random_factorised, {"heads": 2, "rank": 3}),
    "synthesizer_random_tnn": (random, {}),
}


def moved(name: str, causal: bool) -> Mixer:
    """The mixer with all parameters standard normal."""
    mixer = build(name, DIM, causal=causal, length=LENGTH, **SCORES[name][1]).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_()
    return mixer


def by_loops(mixer: Mixer, name: str, x: Tensor, causal: bool) -> Tensor:
    """Y = softmax(S(X)) G(X), head by head (section 3), of one sequence (N, D)."""
    score, heads = SCORES[name][0], SCORES[name][1].get("heads", 1)
    plain, width = name.endswith("_tnn"), DIM // heads
    values = x if plain else x @ mixer.value.weight.T
    y = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(x)):
            seen = range(i + 1) if causal else range(len(x))
            logits = [score(mixer.scores, x, i, j, head, heads) for j in seen]
            powers = [math.exp(logit - max(logits)) for logit in logits]
            for j in seen:
                y[i, part] += powers[j] / sum(powers) * values[j, part]
    return y if plain else y @ mixer.out.weight.T + mixer.out.bias


@pytest.mark.parametrize("length", [1, 7, LENGTH])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", SCORES)
@torch.no_grad()
def test_synthesizer_is_the_papers_equations(name: str, causal: bool, length: int):
    mixer, x = moved(name, causal), torch.randn(2, length, DIM, dtype=torch.float64)
    expected = torch.stack([by_loops(mixer, name, sequence, causal) for sequence in x])
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_dense_synthesizer_is_attention_with_its_scores_as_the_bias(causal: bool):
    """SDPA with queries and keys of zeros: softmax(0 + bias) V."""
    mixer, x = moved("synthesizer_dense", causal), torch.randn(2, 9, DIM, dtype=torch.float64)
    inner = F.relu(F.linear(x, mixer.scores.hidden.weight, mixer.scores.hidden.bias)).reshape(2, 9, 2, 3)
    bias = torch.einsum("bihk,hkj->bhij", inner, mixer.scores.columns.weight) + mixer.scores.columns.bias
    bias = bias[..., :9]
    if causal:
        bias = bias.masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf)
    values = mixer.value(x).reshape(2, 9, 2, 3).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(0 * values, 0 * values, values, attn_mask=bias)
    torch.testing.assert_close(mixer(x), mixer.out(mixed.transpose(1, 2).reshape(2, 9, DIM)))


@pytest.mark.parametrize(
    ("name", "weights"),
    [  # table 1: D^2 + D L, D^2 + D (a + b), L^2 a head, 2 L k a head
        ("synthesizer_dense", 64 + 8 * 40),
        ("synthesizer_dense_factorised", 64 + 8 * (8 + 5)),
        ("synthesizer_dense_tnn", 64 + 8 * 40),
        ("synthesizer_random", 4 * 40 * 40),
        ("synthesizer_random_factorised", 4 * 2 * 40 * 8),
        ("synthesizer_random_tnn", 40 * 40),
    ],
)
def test_scores_have_as_many_weights_as_the_paper_says(name: str, weights: int):
    mixer = build(name, 8, causal=True, length=40)
    counted = {key: p.numel() for key, p in mixer.scores.named_parameters() if not key.endswith("bias")}
    assert sum(counted.values()) == weights
    projections = {key for key in mixer.state_dict() if not key.startswith("scores.")}
    assert projections == (set() if name.endswith("_tnn") else {"value.weight", "out.weight", "out.bias"})


def test_initial_values_of_learned_scores():
    """Glorot uniform over each head's matrices; standard normal in the TNN paper's comparison."""
    bound = (6 / (100 + 100)) ** 0.5
    table = build("synthesizer_random", 8, causal=True, length=100).scores.table
    assert 0.99 * bound < table.abs().max() <= bound
    factorised = build("synthesizer_random_factorised", 8, causal=True, length=100).scores
    for factor in (factorised.rows, factorised.columns):
        assert 0.99 < factor.abs().max() / (6 / (100 + 8)) ** 0.5 <= 1
    normal = build("synthesizer_random_tnn", 8, causal=True, length=100).scores.table
    assert 0.97 < normal.std() < 1.03
    assert normal.abs().max() > 3


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("synthesizer_dense", {"heads": 4}, "synthesizer_dense: heads=4 must divide dim=6"),
        ("synthesizer_random", {"heads": 0}, "synthesizer_random: heads=0 must divide dim=6"),
        ("synthesizer_random_factorised", {"heads": 3, "rank": 0}, "rank=0 must be at least 1"),
        ("synthesizer_dense_factorised", {"heads": 3, "blocks": 0}, "blocks=0 must be at least 1"),
        ("synthesizer_dense_tnn", {"length": 0}, "synthesizer_dense_tnn: length=0 must be at least 1"),
        ("synthesizer_random_tnn", {"length": 0}, "synthesizer_random_tnn: length=0 must be at least 1"),
    ],
)
def test_bad_keywords(name: str, keywords: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(name, DIM, causal=True, **{"length": LENGTH, **keywords})


@pytest.mark.parametrize("name", SCORES)
def test_decoding_ends_at_the_length(name: str):
    mixer = moved(name, causal=True)
    _, state = mixer.prefill(torch.randn(1, LENGTH, DIM, dtype=torch.float64))
    with pytest.raises(ValueError, match="N=12 is beyond length=11"):
        mixer.step(torch.randn(1, DIM, dtype=torch.float64), state)
