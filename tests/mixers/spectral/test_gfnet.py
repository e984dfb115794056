"""GFNet against sums over tokens and frequencies, written as loops, and against scipy's circulant matrices."""

import cmath
import math
from itertools import product

import pytest
import torch
from scipy.linalg import circulant

from mixers import build
from mixers.spectral.gfnet import MaskedGlobalFilter


def times(frequency: int, places: int) -> int:
    """How many of the `places` frequencies of a real sequence the kept half stands for at `frequency`."""
    return 1 if frequency in (0, places / 2) else 2


def filtered(x: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """x (H, W), gains (H, W // 2 + 1): X = sum of x e^(-i angle) / sqrt(HW), y = Re of the sum of K X e^(i angle)."""
    height, width = x.shape
    y = [[torch.zeros((), dtype=torch.float64) for _ in range(width)] for _ in range(height)]
    for p, q in product(range(height), range(width // 2 + 1)):
        turn = {
            (h, w): cmath.exp(2j * math.pi * (p * h / height + q * w / width))
            for h in range(height)
            for w in range(width)
        }
        frequency = sum(x[h, w] * turn[h, w].conjugate() for h, w in turn) / math.sqrt(height * width)
        for h, w in turn:
            wave = gains[p, q] * frequency * turn[h, w] / math.sqrt(height * width)
            y[h][w] = y[h][w] + times(q, width) * wave.real
    return torch.stack([torch.stack(row) for row in y])


def channels_filtered(x: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """x (B, H, W, D) and gains (H, W // 2 + 1, D), one channel of one sequence after the other."""
    rows = [torch.stack([filtered(one[..., d], gains[..., d]) for d in range(x.shape[-1])], dim=-1) for one in x]
    return torch.stack(rows)


@pytest.mark.parametrize("tokens", [1, 3, None])
@pytest.mark.parametrize("length", [1, 2, 5, 7, 8])
def test_outputs_and_gradients_are_those_of_the_sums(length: int, tokens: int | None):
    tokens = min(tokens or length, length)
    mixer = build("gfnet", 3, causal=False, length=length).double()
    x = torch.randn(2, tokens, 3, dtype=torch.float64, requires_grad=True)
    gains = torch.view_as_complex(mixer.filter)
    filled = torch.cat([x, torch.zeros(2, length - tokens, 3, dtype=torch.float64)], dim=1)
    expected = channels_filtered(filled[:, None], gains[None])[:, 0, :tokens]
    y, weights = mixer(x), torch.randn(2, tokens, 3, dtype=torch.float64)
    torch.testing.assert_close(y, expected)
    for got, wanted in zip(
        torch.autograd.grad((y * weights).sum(), [x, mixer.filter]),
        torch.autograd.grad((expected * weights).sum(), [x, mixer.filter]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (4, 3), (2, 5), (5, 2)])
def test_images_and_gradients_are_those_of_the_sums(grid: tuple[int, int]):
    mixer = build("gfnet_2d", 2, causal=False, grid=grid).double()
    tokens = grid[0] * grid[1]
    x = torch.randn(2, tokens, 2, dtype=torch.float64, requires_grad=True)
    expected = channels_filtered(x.unflatten(1, grid), torch.view_as_complex(mixer.filter)).flatten(1, 2)
    y, weights = mixer(x), torch.randn(2, tokens, 2, dtype=torch.float64)
    torch.testing.assert_close(y, expected)
    for got, wanted in zip(
        torch.autograd.grad((y * weights).sum(), [x, mixer.filter]),
        torch.autograd.grad((expected * weights).sum(), [x, mixer.filter]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("length", [6, 9])
def test_it_is_a_circulant_matrix(length: int):
    mixer = build("gfnet", 3, causal=False, length=length).double()
    x = torch.randn(1, length, 3, dtype=torch.float64)
    kernels = torch.fft.irfft(torch.view_as_complex(mixer.filter.detach()), length, dim=0)
    for d in range(3):
        expected = torch.from_numpy(circulant(kernels[:, d].numpy())) @ x[0, :, d]
        torch.testing.assert_close(mixer(x)[0, :, d], expected)


def gains_of(mixer, count: int) -> torch.Tensor:
    """The first `count` gains, zeros behind those that there are: (count, D)."""
    gains = torch.view_as_complex(mixer.filter)[:count]
    return torch.cat([gains, gains.new_zeros(count - len(gains), gains.shape[1])])


@pytest.mark.parametrize("length", [1, 2, 5, 8, 11, 30])
def test_gfnet_tnn_filters_the_frequencies_of_the_current_length(length: int):
    mixer = build("gfnet_tnn", 3, causal=False, length=8).double()
    x = torch.randn(2, length, 3, dtype=torch.float64)
    expected = channels_filtered(x[:, None], gains_of(mixer, length // 2 + 1)[None])[:, 0]
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 11])
def test_gfnet_masked_is_two_masked_fourier_matrices(length: int):
    """y_i = Re sum over j <= i of w^(i j) K_j sum over k <= j of w^(-j k) x_k / N, with gradients."""
    mixer = MaskedGlobalFilter(3, length=8).double()
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    gains, outputs = gains_of(mixer, length), []
    for i in range(length):
        terms = [
            (cmath.exp(2j * math.pi * (i * j - j * k) / length) * gains[j]).real * x[:, k] / length
            for j in range(i + 1)
            for k in range(j + 1)
        ]
        outputs.append(sum(terms))
    expected, y = torch.stack(outputs, dim=1), mixer(x)
    torch.testing.assert_close(y, expected)
    weights = torch.randn(2, length, 3, dtype=torch.float64)
    for got, wanted in zip(
        torch.autograd.grad((y * weights).sum(), [x, mixer.filter]),
        torch.autograd.grad((expected * weights).sum(), [x, mixer.filter]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_gfnet_tnn_has_a_gain_a_token():
    """As that code has, also where half of them serve no frequency."""
    for mixer in (build("gfnet_tnn", 4, causal=False, length=9), MaskedGlobalFilter(4, length=9)):
        assert mixer.filter.shape == (9, 4, 2)


def test_fewer_tokens_are_a_grid_that_ends_early():
    mixer = build("gfnet_2d", 3, causal=False, grid=(3, 4))
    x = torch.randn(2, 7, 3)
    filled = torch.cat([x, torch.zeros(2, 5, 3)], dim=1)
    torch.testing.assert_close(mixer(x), mixer(filled)[:, :7])


def test_parameters_are_the_papers():
    line, image = build("gfnet", 384, causal=False, length=196), build("gfnet_2d", 384, causal=False, grid=(14, 14))
    assert {name: tuple(p.shape) for name, p in line.named_parameters()} == {"filter": (99, 384, 2)}
    assert {name: tuple(p.shape) for name, p in image.named_parameters()} == {"filter": (14, 8, 384, 2)}
    for mixer in (line, image):
        assert mixer.filter.std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(mixer.filter.mean().item()) < 1e-3


@pytest.mark.parametrize(
    ("name", "needs", "message"),
    [
        ("gfnet", {"length": 0}, "gfnet: length=0 must be at least 1"),
        ("gfnet", {}, "gfnet needs length="),
        ("gfnet_tnn", {"length": 0}, "gfnet_tnn: length=0 must be at least 1"),
        ("gfnet_2d", {"grid": (3, 0)}, "must have at least one row and one column"),
        ("gfnet_2d", {"length": 12}, "gfnet_2d needs grid="),
    ],
)
def test_bad_needs_get_one_clear_line(name: str, needs: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        build(name, 8, causal=False, **needs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("gfnet", "N=13 is beyond length=12"), ("gfnet_2d", "N=13 is beyond the 3 x 4 = 12 places of the grid")],
)
def test_too_many_tokens_get_one_clear_line(name: str, message: str):
    mixer = build(name, 8, causal=False, length=12, grid=(3, 4))
    with pytest.raises(ValueError, match=message):
        mixer(torch.zeros(1, 13, 8))
    if name == "gfnet":
        with pytest.raises(ValueError, match=message):
            mixer.toeplitz(13)
