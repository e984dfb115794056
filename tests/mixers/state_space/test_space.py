"""What all state spaces share: kernels as exact as float32 can hold them, states no wider than that."""

import pytest
import torch

from mixers import build

ROWS = ["s4", "s4d", "dss", "dss_softmax"]


@pytest.mark.parametrize("name", ROWS)
def test_float32_holds_long_kernels(name: str):
    torch.manual_seed(0)
    mixer = build(name, 4, causal=False, length=2000)
    narrow = mixer.kernel(2000)
    wide = mixer.double().kernel(2000)
    assert narrow.dtype == torch.float32
    assert (narrow - wide).abs().max() < 1e-5 * wide.abs().max()


@pytest.mark.parametrize("name", ROWS)
def test_states_are_no_wider_than_float32(name: str):
    mixer = build(name, 4, causal=True, length=9)
    _, state = mixer.prefill(torch.zeros(2, 5, 4))
    y, state = mixer.step(torch.zeros(2, 4), state)
    assert y.dtype == torch.float32
    assert state["sums"].dtype == mixer.init_state(2)["sums"].dtype == torch.complex64
