"""Linear attention against its quadratic definition."""

import pytest
import torch
import torch.nn.functional as F

from mixers import build


@pytest.mark.parametrize("causal", [True, False])
def test_linear_attention_is_the_quadratic_one(causal: bool):
    """Equation 4 with sim(q, k) = phi(q)^T phi(k), row by row."""
    mixer = build("linear_elu", 8, causal=causal, heads=2, chunk=4).double()
    x = torch.randn(1, 11, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x)[0].reshape(11, 3, 2, 4).unbind(1)
    expected = torch.zeros(11, 2, 4, dtype=torch.float64)
    for head in range(2):
        for i in range(11):
            seen = range(i + 1) if causal else range(11)
            weights = torch.stack([(F.elu(q[i, head]) + 1) @ (F.elu(k[j, head]) + 1) for j in seen])
            expected[i, head] = (weights / weights.sum()) @ v[list(seen), head]
    torch.testing.assert_close(mixer(x)[0], mixer.out(expected.reshape(11, 8)))
