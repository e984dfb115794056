"""Section 3.4 of the paper: convolution, state space, ALiBi and biased attention are the Toeplitz matrices it names."""

import pytest
import torch

from mixers import build
from mixers.ops.attention import attention
from mixers.ops.toeplitz import toeplitz_matmul, toeplitz_matrix
from mixers.toeplitz.special_forms import (
    alibi_coefficients,
    convolution_coefficients,
    state_space_coefficients,
    toeplitz_attention,
)

X = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 3, 12])
def test_a_causal_convolution_is_a_toeplitz_matrix(width: int):
    mixer = build("convolution", 3, causal=True, width=width).double()
    newest_first = mixer.weight[:, 0].flip(1).T  # (W, D)
    coefficients = convolution_coefficients(newest_first, 9)
    torch.testing.assert_close(toeplitz_matmul(coefficients, X, causal=True), mixer(X))
    assert not coefficients[width:].any()


def test_a_diagonal_state_space_is_a_toeplitz_matrix():
    """S4D's recurrence, written out from its own discretised parameters, before its output layers."""
    mixer = build("s4d", 3, causal=True, state=8).double()
    rate, readout = mixer.system(torch.float64).rate, mixer.system(torch.float64).weight[0]
    coefficients = state_space_coefficients(rate.exp(), torch.ones_like(rate), readout, mixer.skip, 9)
    state, outputs = torch.zeros(2, 3, 4, dtype=torch.complex128), []
    for token in X.unbind(1):
        state = rate.exp() * state + token[..., None]
        outputs.append((readout * state).sum(-1).real + mixer.skip * token)
    y = torch.stack(outputs, dim=1)
    torch.testing.assert_close(toeplitz_matmul(coefficients, X, causal=True), y)
    torch.testing.assert_close(mixer.output(y), mixer(X))


def test_a_pole_of_zero_is_the_present_token_alone():
    one, zero = torch.ones(2, 1, dtype=torch.complex128), torch.zeros(2, 1, dtype=torch.complex128)
    coefficients = state_space_coefficients(zero, one, 3 * one, torch.full((2,), 0.5, dtype=torch.float64), 3)
    assert coefficients.tolist() == [[3.5, 3.5], [0, 0], [0, 0]]


@pytest.mark.parametrize("causal", [True, False])
def test_alibi_is_a_toeplitz_bias(causal: bool):
    mixer = build("softmax_alibi", 8, causal=causal, heads=2).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    bias = toeplitz_matrix(alibi_coefficients(mixer.slopes, 9), causal=False).movedim(-1, 0)  # (H, N, N)
    torch.testing.assert_close(bias, mixer.bias(9, 9))
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 2, 4)).movedim(1, -2).unbind(1)
    mixed = toeplitz_attention(q, k, v, bias, causal=causal)
    torch.testing.assert_close(mixer.out(mixed.transpose(1, 2).flatten(2)), mixer(x))


@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_a_toeplitz_bias(causal: bool):
    """softmax(Q K^T / sqrt(K) + T) by the definition, one query at a time, and by the project's attention."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 2, 2, 7, 4, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(13, 2, generator=generator, dtype=torch.float64)
    bias = toeplitz_matrix(coefficients, causal=False).movedim(-1, 0)
    y = toeplitz_attention(q, k, v, bias, causal=causal)
    torch.testing.assert_close(y, attention(q, k, v, causal=causal, bias=bias))
    for i in range(7):
        seen = range(i + 1 if causal else 7)
        lag = torch.stack([coefficients[i - j + 6] for j in seen], dim=-1)  # (H, seen)
        scores = (q[:, :, i, None] * k[:, :, : len(seen)]).sum(-1) / 2 + lag
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        torch.testing.assert_close(y[:, :, i], (weights[..., None] * v[:, :, : len(seen)]).sum(2))
