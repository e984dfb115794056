"""The online product is the product, token by token, and reads and stores no more than it promises."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mixers.contract import state_tensors
from mixers.ops.online import advance, remember, start, truncated
from mixers.ops.toeplitz import toeplitz_matmul


def history(coefficients, x):
    """The reference: every output from all inputs before it."""
    return torch.stack([(coefficients[: i + 1].flip(0) * x[:, : i + 1]).sum(1) for i in range(x.shape[1])], dim=1)


@given(st.integers(1, 3), st.integers(1, 70), st.integers(0, 70), st.integers(0, 99))
def test_any_prefill_and_then_steps_give_the_dense_history(batch, length, prefilled, seed):
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(256, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(batch, length, 2, generator=generator, dtype=torch.float64)
    prefilled = min(prefilled, length)
    state = remember(x[:, :prefilled], lambda n: coefficients[:n])
    expected = history(coefficients, x)
    for place in range(prefilled, length):
        y, state = advance(x[:, place], state, lambda n: coefficients[:n])
        torch.testing.assert_close(y, expected[:, place])


def test_a_prefill_leaves_the_state_that_steps_leave():
    coefficients, x = torch.randn(256, 3, dtype=torch.float64), torch.randn(2, 45, 3, dtype=torch.float64)
    state = start()
    for token in x.unbind(1):
        _, state = advance(token, state, lambda n: coefficients[:n])
    whole = remember(x, lambda n: coefficients[:n])
    assert state["tokens"] == whole["tokens"] == 45
    for one, other in zip(state_tensors(state), state_tensors(whole), strict=True):
        torch.testing.assert_close(one, other)


def test_the_lags_read_per_token_grow_with_the_logarithm():
    coefficients, x = torch.randn(4096, 1), torch.randn(1, 1, 1)
    reads = []

    def lags(count):
        reads.append(count)
        return coefficients[:count]

    state = start()
    for _ in range(1024):
        _, state = advance(x[:, 0], state, lags)
    assert sum(reads) / 1024 <= 2 * 11  # each of the 11 sizes of tile reads 2 lags a token on average
    assert len(state["blocks"]) == 1  # 1024 tokens are one block


def test_the_state_holds_each_input_and_one_influence_a_token():
    x = torch.randn(2, 100, 3)
    state = remember(x, lambda n: torch.ones(n, 3))
    assert [inputs.shape[1] for inputs, _ in state["blocks"]] == [64, 32, 4]  # the binary digits of 100
    assert torch.equal(torch.cat([inputs for inputs, _ in state["blocks"]], dim=1), x)
    assert sum(tensor.numel() for tensor in state_tensors(state)) == 2 * x.numel()


def test_lags_beyond_the_last_are_zero():
    lags = truncated(lambda n: torch.ones(n, 2), 5)
    assert lags(8)[:, 0].tolist() == [1] * 5 + [0] * 3
    assert len(lags(3)) == 3


def test_large_tiles_agree_with_the_product():
    coefficients, x = torch.randn(1024, 2, dtype=torch.float64), torch.randn(1, 300, 2, dtype=torch.float64)
    state = remember(x[:, :299], lambda n: coefficients[:n])
    y, _ = advance(x[:, 299], state, lambda n: coefficients[:n])
    torch.testing.assert_close(y, toeplitz_matmul(coefficients[:300], x, causal=True)[:, 299])
