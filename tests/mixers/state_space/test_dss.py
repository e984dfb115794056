"""DSS-exp and DSS-softmax against their propositions, written as loops over modes and tokens."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal

from mixers import build

SOFTMAX = ["dss_softmax", "dss_softmax_tnn"]


def moved(name: str, causal: bool, **keywords):
    """A mixer away from its initial values: the two steps of a channel differ, and some modes of softmax grow."""
    torch.manual_seed(3)
    mixer = build(name, 2, causal=causal, length=29, **keywords).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.4 * torch.randn_like(parameter)
    return mixer


def spectrum(parameters, real: torch.Tensor, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """lambda, and its parts times their steps."""
    frequency = parameters.frequency.detach().numpy()
    steps = parameters.log_dt[channel].detach().exp().numpy()
    real = real.detach().numpy()
    return real + 1j * frequency, real * steps[0] + 1j * frequency * steps[1]


def weights(parameters, kernel: int, channel: int) -> np.ndarray:
    return torch.view_as_complex(parameters.weight.detach()[kernel, channel].contiguous()).numpy()


def exponential_kernel(mixer, kernel: int, channel: int, length: int) -> list[float]:
    """Proposition 1a."""
    values, scaled = spectrum(mixer, -mixer.log_decay.exp(), channel)
    w = weights(mixer, kernel, channel)
    return [sum(w * (np.exp(scaled) - 1) / values * np.exp(scaled * place)).real for place in range(length)]


def softmax_kernel(mixer, kernel: int, channel: int, length: int, over: int) -> list[float]:
    """Proposition 1b: each mode divided by its sum over `over` places, and by lambda, as conj(x) / (|x|^2 + 1e-7).

    The product that is inverted is that of lambda and exp(L dt lambda) - 1, of the decaying one of lambda and -lambda.
    """
    modes = mixer.modes
    values, scaled = spectrum(modes, modes.growth, channel)
    w, total = weights(modes, kernel, channel), np.zeros(length)
    for value, rate, weight in zip(values, scaled, w, strict=True):
        places = np.arange(over) - (over - 1 if value.real > 0 else 0)
        falling = -rate if value.real > 0 else rate
        x = value * (np.exp(over * falling) - 1)
        inverse = np.conj(x) / (abs(x) ** 2 + 1e-7)
        total += (weight * (np.exp(falling) - 1) * inverse * np.exp(rate * places[:length])).real
    return list(total)


def kernels_of(name: str, mixer, length: int) -> np.ndarray:
    """(kernels, N, D)."""
    count, found = 1 if mixer.causal else 2, []
    for kernel in range(count):
        if name == "dss":
            found.append([exponential_kernel(mixer, kernel, channel, length) for channel in range(2)])
        else:
            over = length if name == "dss_softmax_tnn" else 29
            found.append([softmax_kernel(mixer, kernel, channel, length, over) for channel in range(2)])
    return np.array(found).transpose(0, 2, 1)


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 29])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", ["dss", *SOFTMAX])
def test_kernel_is_the_papers(name: str, causal: bool, length: int):
    mixer = moved(name, causal, state=6)
    kernels = mixer.kernel(length).detach().numpy()
    np.testing.assert_allclose(kernels, kernels_of(name, mixer, length), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", SOFTMAX)
def test_some_of_these_modes_grow_and_some_decay(name: str):
    growth = moved(name, True, state=6).modes.growth
    assert 0 < (growth > 0).sum() < 6


@pytest.mark.parametrize("name", SOFTMAX)
def test_modes_are_a_softmax_over_places(name: str):
    """W times the row-softmax of dt lambda l, over lambda, as proposition 1b has it; the 1e-7 moves it a little."""
    mixer = moved(name, True, state=4)
    values, scaled = spectrum(mixer.modes, mixer.modes.growth, 1)
    exponentials = np.exp(scaled[:, None] * np.arange(29))
    rows = exponentials / exponentials.sum(1, keepdims=True)
    expected = ((weights(mixer.modes, 0, 1) / values) @ rows).real
    np.testing.assert_allclose(mixer.kernel(29)[0, :, 1].detach().numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", ["dss", *SOFTMAX])
def test_output_is_the_double_sum_and_the_output_layers(name: str, causal: bool):
    mixer = moved(name, causal, state=3)
    x, kernels = torch.randn(1, 5, 2, dtype=torch.float64), torch.tensor(kernels_of(name, mixer, 5))
    y = mixer.skip * x
    for i in range(5):
        for j in range(i + 1) if causal else range(5):
            y[:, i] = y[:, i] + (kernels[0, i - j] if j <= i else kernels[-1, j - i - 1]) * x[:, j]
    torch.testing.assert_close(mixer(x), mixer.out(F.gelu(y)))


def test_exponential_kernel_is_a_held_system():
    """With one step for both parts, scipy's zero-order hold of diag(lambda) with B = 1; dt B is held by expm(dt A)."""
    mixer = build("dss", 1, causal=True, state=5).double()
    values, _ = spectrum(mixer, -mixer.log_decay.exp(), 0)
    system = np.diag(values), np.ones((5, 1)), weights(mixer, 0, 0)[None], np.zeros((1, 1))
    a, b, c, *_ = signal.cont2discrete(system, mixer.log_dt[0, 0].exp().item(), method="zoh")
    expected = [(c @ np.linalg.matrix_power(a, place) @ b).item().real for place in range(20)]
    np.testing.assert_allclose(mixer.kernel(20)[0, :, 0].detach().numpy(), expected, rtol=1e-6, atol=1e-9)


def test_decoding_modes_that_grow_overflows_nothing():
    mixer = build("dss_softmax", 2, causal=True, length=3000, state=4)
    torch.nn.init.constant_(mixer.modes.growth, 5.0)
    torch.nn.init.constant_(mixer.modes.log_dt, math.log(0.1))
    x = torch.randn(1, 3000, 2)
    y, expected = mixer(x), mixer.double()(x.double())
    assert (y - expected).abs().max() < 2e-4 * expected.abs().max()
    mixer.float()
    _, state = mixer.prefill(x[:, :2990])
    for place in range(2990, 3000):
        out, state = mixer.step(x[:, place], state)
        assert (out - expected[:, place]).abs().max() < 2e-4 * expected.abs().max()


@pytest.mark.parametrize("name", ["dss", *SOFTMAX])
def test_it_starts_at_half_the_skew_part_of_hippo(name: str):
    """The eigenvalues with positive imaginary part of (A - A^T) / 2 of twice the size, minus a half."""
    mixer = build(name, 3, causal=True, length=8, state=6)
    root = np.sqrt(2 * np.arange(12) + 1)
    hippo = np.tril(np.outer(root, root), -1)
    eigenvalues = np.linalg.eigvals((hippo - hippo.T) / 2)
    expected = np.sort(eigenvalues.imag[eigenvalues.imag > 0])[::-1]
    parameters = mixer if name == "dss" else mixer.modes
    np.testing.assert_allclose(parameters.frequency.detach().numpy(), expected, rtol=1e-5)
    real = -mixer.log_decay.exp() if name == "dss" else parameters.growth
    torch.testing.assert_close(real, torch.full((6,), -0.5))
    assert torch.equal(parameters.log_dt[:, 0], parameters.log_dt[:, 1])
    assert 0.001 <= parameters.log_dt.exp().min() <= parameters.log_dt.exp().max() <= 0.1
    assert parameters.weight.shape == (1, 3, 6, 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"state": 0}, "state=0 must be at least 1"),
        ({"dt_min": 0.0}, "dt_min=0.0 and dt_max=0.1 must satisfy"),
        ({"dt_max": 0.0001}, "dt_min=0.001 and dt_max=0.0001 must satisfy"),
    ],
)
@pytest.mark.parametrize("name", ["dss", *SOFTMAX])
def test_bad_keywords(name: str, keywords: dict, message: str):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        build(name, 4, causal=True, length=8, **keywords)


def test_a_length_is_needed_and_kept():
    with pytest.raises(ValueError, match="dss_softmax needs length="):
        build("dss_softmax", 4, causal=True)
    with pytest.raises(ValueError, match="length=0 must be at least 1"):
        build("dss_softmax", 4, causal=True, length=0)
    mixer = build("dss_softmax", 4, causal=True, length=3)
    with pytest.raises(ValueError, match="N=4 is beyond length=3"):
        mixer(torch.zeros(1, 4, 4))
    _, state = mixer.prefill(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="token 4 is beyond length=3"):
        mixer.step(torch.zeros(1, 4), state)
