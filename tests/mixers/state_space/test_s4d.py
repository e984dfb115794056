"""S4D against scipy's discretisation and simulation of the same linear system."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal

from mixers import build


def impulse_response(mixer, kernel: int, channel: int, length: int) -> np.ndarray:
    """2 Re of the diagonal system (A, 1, C, 0), held for dt, as a real system of twice the size simulated by scipy."""
    with torch.no_grad():
        decay = -mixer.log_decay[channel].exp().numpy()
        frequency = mixer.frequency[channel].numpy()
        c = torch.view_as_complex(mixer.readout[kernel, channel].contiguous()).numpy()
        dt = mixer.log_dt[channel].exp().item()
    pairs = len(decay)
    a, b, readout = np.zeros((2 * pairs, 2 * pairs)), np.zeros((2 * pairs, 1)), np.zeros((1, 2 * pairs))
    for s in range(pairs):
        a[2 * s : 2 * s + 2, 2 * s : 2 * s + 2] = [[decay[s], -frequency[s]], [frequency[s], decay[s]]]
        b[2 * s] = 1
        readout[0, 2 * s : 2 * s + 2] = 2 * c[s].real, -2 * c[s].imag
    discrete_a, discrete_b, *_ = signal.cont2discrete((a, b, readout, np.zeros((1, 1))), dt, method="zoh")
    response, state = [], discrete_b
    for _ in range(length):  # y_i = C s_i with s_i = A s_{i-1} + B x_i
        response.append((readout @ state).item())
        state = discrete_a @ state
    return np.array(response)


@pytest.mark.parametrize("length", [1, 2, 16, 17, 100])
@pytest.mark.parametrize("causal", [True, False])
def test_kernel_is_the_systems_impulse_response(length: int, causal: bool):
    mixer = build("s4d", 3, causal=causal, state=6).double()
    kernels = mixer.kernel(length).detach().numpy()
    assert kernels.shape == (1 if causal else 2, length, 3)
    for kernel in range(len(kernels)):
        for channel in range(3):
            expected = impulse_response(mixer, kernel, channel, length)
            np.testing.assert_allclose(kernels[kernel, :, channel], expected, rtol=1e-6, atol=1e-9)


def test_second_kernel_runs_over_the_tokens_after_the_present():
    mixer = build("s4d", 2, causal=False, state=4).double()
    x = torch.randn(1, 6, 2, dtype=torch.float64)
    past, future = mixer.kernel(6)
    y = mixer.skip * x
    for i in range(6):
        for j in range(6):
            y[:, i] = y[:, i] + (past[i - j] if j <= i else future[j - i - 1]) * x[:, j]
    torch.testing.assert_close(mixer(x), F.glu(mixer.out(F.gelu(y)), dim=-1))


def test_it_starts_at_s4d_lin():
    mixer = build("s4d", 2, causal=True, state=6)
    torch.testing.assert_close(mixer.log_decay.exp(), torch.full((2, 3), 0.5))
    torch.testing.assert_close(mixer.frequency[0], torch.pi * torch.arange(3.0))
    assert 0.001 <= mixer.log_dt.exp().min() <= mixer.log_dt.exp().max() <= 0.1
