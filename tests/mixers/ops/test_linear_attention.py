"""The chunked product is the loop, and the loop the double sum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixers.ops.linear_attention import causal_product, causal_product_reference
from mixers.ops.precision import products


def draw_inputs(batch: int, length: int, width: int, seed: int, *, decay: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, 2, length, width), (batch, 2, length, width), (batch, 2, length, 3), (batch, 2, width, 3)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    if decay:
        inputs.append(-torch.randn(batch, 2, length, generator=generator, dtype=torch.float64).square())
    return [tensor.requires_grad_() for tensor in inputs]


@pytest.mark.parametrize("decay", [False, True])
@given(st.integers(1, 2), st.integers(1, 40), st.integers(1, 3), st.integers(1, 45), st.integers(0, 2**16))
def test_chunked_is_the_loop(decay: bool, batch: int, length: int, width: int, chunk: int, seed: int):
    inputs = draw_inputs(batch, length, width, seed, decay=decay)
    fast, loop = causal_product(*inputs, chunk=chunk), causal_product_reference(*inputs)
    for one, other in zip(fast, loop, strict=True):
        torch.testing.assert_close(one, other)
    weights = torch.linspace(1, 2, length, dtype=torch.float64)[:, None]
    gradients = [torch.autograd.grad((y * weights).sum() + state.square().sum(), inputs) for y, state in (fast, loop)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_loop_is_the_double_sum():
    q, k, v, state, log_decay = draw_inputs(1, 7, 2, 0, decay=True)
    expected = torch.zeros(2, 7, 3, dtype=torch.float64)
    for head in range(2):
        for i in range(7):
            expected[head, i] = log_decay[0, head, : i + 1].sum().exp() * (q[0, head, i] @ state[0, head])
            for j in range(i + 1):
                kept = log_decay[0, head, j + 1 : i + 1].sum().exp()
                expected[head, i] += kept * (q[0, head, i] @ k[0, head, j]) * v[0, head, j]
    torch.testing.assert_close(causal_product_reference(q, k, v, state, log_decay)[0][0], expected)


def test_decays_that_vanish_leave_finite_outputs_and_gradients():
    inputs = [tensor.detach().float().requires_grad_() for tensor in draw_inputs(1, 20, 2, 0, decay=True)]
    with torch.no_grad():
        inputs[-1].mul_(1e4)
    fast, loop = causal_product(*inputs, chunk=8), causal_product_reference(*inputs)
    torch.testing.assert_close(fast, loop)
    assert all(torch.isfinite(part).all() for part in torch.autograd.grad(fast[0].sum(), inputs))


@pytest.mark.parametrize("decay", [False, True])
def test_values_in_bfloat16_round_products_and_not_sums(decay: bool):
    """Errors of each product are relative to it; a sum over all chunks in bfloat16 would stand still at 2^8 terms."""
    inputs = [tensor.detach().float().abs() for tensor in draw_inputs(1, 4000, 4, 0, decay=decay)]
    if decay:
        inputs[-1].mul_(-1e-4)
    q, k, v, state, *rest = inputs
    y, after = causal_product(q, k, v.bfloat16(), state, *rest, chunk=16)
    exact, exact_after = causal_product(q, k, v, state, *rest, chunk=16)
    assert y.dtype == after.dtype == torch.float32
    torch.testing.assert_close(y, exact, rtol=2e-2, atol=0)
    torch.testing.assert_close(after, exact_after, rtol=5e-4, atol=0)


@pytest.mark.parametrize(
    ("dtype", "autocast", "expected"),
    [
        (torch.float32, None, torch.float32),
        (torch.bfloat16, None, torch.bfloat16),
        (torch.float16, None, torch.float32),
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float16, torch.float32),
        (torch.float64, torch.bfloat16, torch.float64),
    ],
)
def test_products_are_in_bfloat16_where_those_of_a_layer_are(dtype, autocast, expected):
    x, layer = torch.ones(1, 2, dtype=dtype), torch.nn.Linear(2, 2, dtype=dtype)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        assert products(x) == expected
        assert (layer(x).dtype == torch.bfloat16) == (expected == torch.bfloat16)
