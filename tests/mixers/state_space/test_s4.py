"""S4 against scipy's discretisation of the dense system, and its initial system against HiPPO-LegS itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal

from mixers import build
from mixers.state_space import dplr
from mixers.state_space.dplr import _OverPoles
from mixers.state_space.hippo import legs


def numbers(parameter: torch.Tensor) -> np.ndarray:
    return torch.view_as_complex(parameter.detach().double().contiguous()).numpy()


def dense_system(mixer, channel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A, B, C with all conjugates, complex, and dt of one channel."""
    with torch.no_grad():
        half = -mixer.log_decay[channel].exp().numpy() + 1j * mixer.frequency[channel].numpy()
        dt = mixer.log_dt[channel].exp().item()
    rank_one, drive = (numbers(part[channel]) for part in (mixer.low_rank, mixer.drive))
    readout = numbers(mixer.readout[:, channel])
    eigenvalues, column, b = (np.concatenate([part, part.conj()]) for part in (half, rank_one, drive))
    a = np.diag(eigenvalues) - np.outer(column, column.conj())
    return a, b[:, None], np.concatenate([readout, readout.conj()], axis=1), dt


def impulse_responses(mixer, channel: int, length: int) -> np.ndarray:
    """C Ad^l Bd by multiplication, (kernels, N)."""
    a, b, c, dt = dense_system(mixer, channel)
    unused = np.zeros((len(c), 1))
    discrete_a, _, discrete_c, *_ = signal.cont2discrete((a, b, c, unused), dt, method="bilinear")
    # scipy moves a factor of the bilinear rule into C; the paper's equation 3 leaves C as it is
    np.testing.assert_allclose(discrete_c, c @ np.linalg.inv(np.eye(len(a)) - dt / 2 * a), rtol=1e-9)
    state, response = np.linalg.solve(np.eye(len(a)) - dt / 2 * a, dt * b), []
    for _ in range(length):
        response.append((c @ state)[:, 0])
        state = discrete_a @ state
    response = np.stack(response, axis=1)
    assert np.abs(response.imag).max() < 1e-9
    return response.real


def moved(causal: bool, **keywords):
    """A mixer away from its initial values: P and B are complex there, and not parallel."""
    torch.manual_seed(0)
    mixer = build("s4", 3, causal=causal, **keywords).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return mixer


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 100, 257])
@pytest.mark.parametrize("causal", [True, False])
def test_kernel_is_the_dense_systems_impulse_response(length: int, causal: bool):
    mixer = moved(causal, state=6)
    kernels = mixer.kernel(length).detach().numpy()
    assert kernels.shape == (1 if causal else 2, length, 3)
    for channel in range(3):
        expected = impulse_responses(mixer, channel, length)
        np.testing.assert_allclose(kernels[:, :, channel], expected, rtol=1e-8, atol=1e-10)


def test_the_recurrence_has_the_kernel_of_the_convolution():
    mixer = moved(True)
    system, kernel = mixer.system(torch.float64), mixer.kernel(300)[0]
    impulse, state = torch.ones(1, 3, dtype=torch.float64), system.start(1)
    for place in range(300):
        y, state = system.step(impulse if place == 0 else 0 * impulse, state)
        torch.testing.assert_close(y[0], kernel[place], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("length", [1, 5, 64, 77])
def test_the_state_of_many_tokens_is_that_of_steps(length: int):
    system = moved(True).system(torch.float64)
    x, state = torch.randn(2, length, 3, dtype=torch.float64), system.start(2)
    for token in x.unbind(1):
        _, state = system.step(token, state)
    torch.testing.assert_close(system.after(x)["sums"], state["sums"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_output_is_the_double_sum_and_the_output_layers(causal: bool):
    mixer = moved(causal, state=4)
    x = torch.randn(1, 7, 3, dtype=torch.float64)
    responses = torch.tensor(np.stack([impulse_responses(mixer, channel, 7) for channel in range(3)], axis=-1))
    y = mixer.skip * x
    for i in range(7):
        for j in range(i + 1) if causal else range(7):
            y[:, i] = y[:, i] + (responses[0, i - j] if j <= i else responses[-1, j - i - 1]) * x[:, j]
    torch.testing.assert_close(mixer(x), F.glu(mixer.out(F.gelu(y)), dim=-1), rtol=1e-8, atol=1e-10)


def test_it_starts_at_hippo_legs():
    """The transfer functions B^T (z - A)^-1 B of its first system and of equation 2 of the paper are one."""
    mixer = build("s4", 2, causal=True, state=8)
    a, b, _, dt = dense_system(mixer, 1)
    n = np.arange(8)
    root = np.sqrt(2 * n + 1)
    hippo = -np.tril(np.outer(root, root), -1) - np.diag(n + 1)
    for z in (0.3, 2.0, 1j, 5j + 1):
        start = b[:, 0].conj() @ np.linalg.solve(z * np.eye(8) - a, b[:, 0])
        np.testing.assert_allclose(start, root @ np.linalg.solve(z * np.eye(8) - hippo, root), rtol=1e-5)
    assert 0.001 <= dt <= 0.1
    assert (mixer.frequency[:, :-1] > mixer.frequency[:, 1:]).all()
    assert (mixer.frequency > 0).all()


@pytest.mark.parametrize("held", [1, 20, 3 * 3 * 7])
def test_blocks_of_frequencies_are_the_whole(held: int, monkeypatch):
    """Outputs and derivatives, for blocks of one, two and seven of 17 frequencies."""
    mixer = moved(False, state=6)
    weights = torch.randn(2, 30, 3, dtype=torch.float64)

    def found() -> list[torch.Tensor]:
        kernel, parameters = mixer.kernel(30), [p for name, p in mixer.named_parameters() if "out" not in name]
        return [kernel, *torch.autograd.grad((kernel * weights).sum(), parameters, materialize_grads=True)]

    whole = found()
    monkeypatch.setattr(dplr, "BLOCK", held)
    for block, expected in zip(found(), whole, strict=True):
        torch.testing.assert_close(block, expected)


def test_derivatives_over_poles_are_those_of_finite_differences():
    rows = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    growth, turn = -torch.rand(3, 2, dtype=torch.float64) - 0.1, torch.randn(3, 2, dtype=torch.float64)
    half = torch.linspace(0, torch.pi / 2, 9, dtype=torch.float64)
    inputs = rows, growth.requires_grad_(), turn.requires_grad_(), half
    assert torch.autograd.gradcheck(_OverPoles.apply, inputs)
    assert torch.autograd.gradgradcheck(_OverPoles.apply, inputs)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"state": 5}, "s4: state=5 must be even and at least 2"),
        ({"state": 0}, "s4: state=0 must be even and at least 2"),
        ({"dt_min": 0.2}, "s4: dt_min=0.2 and dt_max=0.1 must satisfy"),
    ],
)
def test_bad_keywords(keywords: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build("s4", 4, causal=True, **keywords)


def test_a_model_without_memory_leaves_nothing_behind_for_real_ones():
    """What all layers share is computed once, and must not lie where the first of them was built."""
    legs.cache_clear()
    with torch.device("meta"):
        assert build("s4", 8, causal=True).frequency.is_meta
    assert build("s4", 8, causal=True).frequency.isfinite().all()
