"""TNN's rows against forms that loop over i and j, written from the paper's equations."""

import pytest
import torch
import torch.nn.functional as F

from mixers import build


def rpe_by_hand(rpe, lag: int) -> torch.Tensor:
    """Linear, then (x / rms, ReLU, Linear) for every further layer (section 3.3)."""
    hidden = rpe.linears[0](torch.tensor([float(lag)], dtype=torch.float64))
    for linear in rpe.linears[1:]:
        hidden = linear(F.relu(hidden / hidden.square().mean().sqrt()))
    return hidden


def tno_by_hand(tno, x: torch.Tensor, decay: float) -> torch.Tensor:
    """y_i = sum over j of decay^|i-j| RPE(i-j) x_j (equations 6 and 9)."""
    y = torch.zeros_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            if j <= i or not tno.causal:
                y[:, i] += decay ** abs(i - j) * rpe_by_hand(tno.rpe, i - j) * x[:, j]
    return y


@pytest.mark.parametrize("causal", [True, False])
def test_tno_is_the_double_loop(causal: bool):
    tno = build("tno", 3, causal=causal, decay=0.9, rpe_width=5, rpe_layers=2).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(tno(x), tno_by_hand(tno, x, 0.9), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("causal", [True, False])
def test_gtu_gates_the_operator(causal: bool):
    gtu = build("gtu", 3, causal=causal, expand=2, decay=0.9, rpe_width=5, rpe_layers=1).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = gtu.out(F.silu(gtu.gate(x)) * tno_by_hand(gtu.tno, F.silu(gtu.value(x)), 0.9))
    torch.testing.assert_close(gtu(x), expected, rtol=1e-6, atol=1e-7)


def test_the_rpe_has_one_linear_more_than_its_layers_at_each_end():
    linears = build("tno", 3, causal=True, rpe_width=5, rpe_layers=6).rpe.linears
    assert [(linear.in_features, linear.out_features) for linear in linears] == [(1, 5), *[(5, 5)] * 6, (5, 3)]


def test_the_rpe_tells_large_lags_apart_under_autocast():
    tno = build("tno", 3, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = tno.coefficients(600)
    assert torch.equal(under_autocast, tno.coefficients(600))


@pytest.mark.parametrize("causal", [True, False])
def test_convolution_is_the_double_loop(causal: bool):
    mixer = build("convolution", 3, causal=causal, width=3).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    y = torch.zeros_like(x)
    for i in range(6):
        for j in range(6):
            tap = 2 - (i - j)  # the oldest lag, 2, is the first tap
            if 0 <= tap < mixer.weight.shape[-1]:
                y[:, i] += mixer.weight[:, 0, tap] * x[:, j]
    torch.testing.assert_close(mixer(x), y)
