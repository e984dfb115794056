"""The softmax rows against torch's own attention and against complex rotations."""

import pytest
import torch

from mixers import build
from mixers.attention.softmax import alibi_slopes


@pytest.mark.parametrize("causal", [True, False])
def test_softmax_is_torch_multihead_attention(causal: bool):
    mixer = build("softmax", 8, causal=causal, heads=2).double()
    oracle = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(mixer.qkv.weight)
        oracle.in_proj_bias.zero_()
        oracle.out_proj.load_state_dict(mixer.out.state_dict())
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    torch.testing.assert_close(mixer(x), oracle(x, x, x, attn_mask=future)[0])


@pytest.mark.parametrize("causal", [True, False])
def test_rotary_scores_are_products_of_complex_numbers(causal: bool):
    """Equation 34 in the complex form of equation 12: q_m e^{i m theta} times the conjugate of k_n e^{i n theta}."""
    mixer = build("softmax_rope", 8, causal=causal, heads=2).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x)[0].reshape(6, 3, 2, 4).unbind(1)  # (N, H, K)
    turns = torch.polar(
        torch.ones(6, 2, dtype=torch.float64),
        torch.arange(6.0, dtype=torch.float64)[:, None] * torch.tensor([1.0, 10000.0**-0.5], dtype=torch.float64),
    )[:, None]
    turned = [torch.view_as_complex(part.reshape(6, 2, 2, 2).contiguous()) * turns for part in (q, k)]
    scores = torch.einsum("mhk,nhk->hmn", turned[0], turned[1].conj()).real / 2
    if causal:
        scores = scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf)
    expected = mixer.out(torch.einsum("hmn,nhk->mhk", scores.softmax(-1), v).reshape(6, 8))
    torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("causal", [True, False])
def test_alibi_lowers_scores_by_distance(causal: bool):
    mixer = build("softmax_alibi", 8, causal=causal, heads=2).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x)[0].reshape(6, 3, 2, 4).unbind(1)
    scores = torch.einsum("mhk,nhk->hmn", q, k) / 2
    for head, slope in enumerate([2**-4, 2**-8]):
        for i in range(6):
            for j in range(6):
                scores[head, i, j] -= slope * abs(i - j)
                if causal and j > i:
                    scores[head, i, j] = -torch.inf
    expected = mixer.out(torch.einsum("hmn,nhk->mhk", scores.softmax(-1), v).reshape(6, 8))
    torch.testing.assert_close(mixer(x)[0], expected)


def test_slopes_are_the_papers():
    assert alibi_slopes(8) == [2**-h for h in range(1, 9)]
    assert alibi_slopes(6) == [*[2 ** (-2 * h) for h in range(1, 5)], 2**-1, 2**-3]


def test_softmax_knows_no_order():
    mixer = build("softmax", 8, causal=False).double()
    x, order = torch.randn(1, 9, 8, dtype=torch.float64), torch.randperm(9)
    torch.testing.assert_close(mixer(x[:, order]), mixer(x)[:, order])


@pytest.mark.parametrize("name", ["softmax", "softmax_rope", "softmax_alibi"])
def test_dropout_falls_in_training_alone(name: str):
    mixer, x = build(name, 8, causal=True, dropout=0.5), torch.randn(1, 6, 8)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))
    with pytest.raises(ValueError, match=r"dropout=1.0 must lie in \[0, 1\)"):
        build(name, 8, causal=True, dropout=1.0)
