"""The chunked product is the loop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mixers.ops.linear_attention import causal_product, causal_product_reference


@given(st.integers(1, 2), st.integers(1, 40), st.integers(1, 3), st.integers(1, 45), st.integers(0, 2**16))
def test_chunked_is_the_loop(batch: int, length: int, width: int, chunk: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, 2, length, width), (batch, 2, length, width), (batch, 2, length, 3), (batch, 2, width, 3)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    fast, loop = causal_product(*inputs, chunk=chunk), causal_product_reference(*inputs)
    for one, other in zip(fast, loop, strict=True):
        torch.testing.assert_close(one, other)
    weights = torch.linspace(1, 2, length, dtype=torch.float64)[:, None]
    gradients = [torch.autograd.grad((y * weights).sum() + state.square().sum(), inputs) for y, state in (fast, loop)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
