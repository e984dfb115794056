"""AFNO against sums over tokens, frequencies and blocks, written as loops."""

import cmath
import math
from itertools import product

import pytest
import torch

from mixers import build
from mixers.contract import Mixer
from mixers.spectral.afno import MaskedAdaptiveFourierOperator


def positive(z: complex) -> complex:
    return complex(max(z.real, 0), max(z.imag, 0))


def shrunk(z: complex, threshold: float) -> complex:
    real, imaginary = (math.copysign(max(abs(part) - threshold, 0), part) for part in (z.real, z.imag))
    return complex(real, imaginary)


def layer(z: list[complex], weight: torch.Tensor, bias: torch.Tensor) -> list[complex]:
    """Complex W z + b of all blocks: weight (K, C, C, 2) from input to output, bias (K, C, 2)."""
    blocks, width = bias.shape[:2]
    outputs = []
    for block, to in product(range(blocks), range(width)):
        terms = (complex(*weight[block, of, to].tolist()) * z[block * width + of] for of in range(width))
        outputs.append(sum(terms, complex(*bias[block, to].tolist())))
    return outputs


def operated(mixer: Mixer, x: torch.Tensor, threshold: float) -> torch.Tensor:
    """x (H, W, D): x + the sum of the frequencies that the two layers make of its own."""
    height, width, dim = x.shape
    root, y = math.sqrt(height * width), x.tolist()
    for p, q in product(range(height), range(width // 2 + 1)):
        turn = {
            (h, w): cmath.exp(2j * math.pi * (p * h / height + q * w / width))
            for h in range(height)
            for w in range(width)
        }
        z = [sum(x[h, w, d].item() * turn[h, w].conjugate() for h, w in turn) / root for d in range(dim)]
        z = [positive(value) for value in layer(z, mixer.weight_1, mixer.bias_1)]
        z = [shrunk(value, threshold) for value in layer(z, mixer.weight_2, mixer.bias_2)]
        times = 1 if q in (0, width / 2) else 2  # the other half of the frequencies is the conjugate of this one
        for (h, w), d in product(turn, range(dim)):
            y[h][w][d] += times * (z[d] * turn[h, w]).real / root
    return torch.tensor(y, dtype=torch.float64)


def moved(name: str, grid: tuple[int, int], threshold: float) -> Mixer:
    """A mixer with weights large enough that some values pass the threshold and others do not."""
    mixer = build(name, 6, causal=False, grid=grid, blocks=3, threshold=threshold).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return mixer


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_sequences_are_those_of_the_sums(length: int, threshold: float):
    mixer, x = moved("afno", (1, length), threshold), torch.randn(2, length, 6, dtype=torch.float64)
    expected = torch.stack([operated(mixer, one[None], threshold)[0] for one in x])
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (4, 3), (2, 5)])
def test_images_are_those_of_the_sums(grid: tuple[int, int]):
    mixer, x = moved("afno_2d", grid, 0.3), torch.randn(2, grid[0] * grid[1], 6, dtype=torch.float64)
    expected = torch.stack([operated(mixer, one.unflatten(0, grid), 0.3).flatten(0, 1) for one in x])
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_afno_masked_is_layers_between_two_masked_fourier_matrices(length: int, threshold: float):
    mixer = MaskedAdaptiveFourierOperator(6, blocks=3, threshold=threshold).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, root = torch.randn(1, length, 6, dtype=torch.float64), math.sqrt(length)
    expected = x.clone()
    for j in range(length):
        turn = [cmath.exp(-2j * math.pi * j * k / length) for k in range(length)]
        z = [sum(turn[k] * x[0, k, d].item() for k in range(j + 1)) / root for d in range(6)]
        z = [positive(value) for value in layer(z, mixer.weight_1, mixer.bias_1)]
        z = [shrunk(value, threshold) for value in layer(z, mixer.weight_2, mixer.bias_2)]
        for i, d in product(range(j, length), range(6)):
            expected[0, i, d] += (turn[i].conjugate() * z[d]).real / root
    torch.testing.assert_close(mixer(x), expected)


def test_fewer_tokens_are_a_grid_that_ends_early():
    mixer, x = moved("afno_2d", (3, 4), 0.01), torch.randn(2, 7, 6, dtype=torch.float64)
    filled = torch.cat([x, torch.zeros(2, 5, 6, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(mixer(x), mixer(filled)[:, :7])


@pytest.mark.parametrize("name", ["afno", "afno_2d"])
def test_a_high_threshold_leaves_the_tokens_as_they_are(name: str):
    mixer, x = moved(name, (3, 4), 1e9), torch.randn(2, 12, 6, dtype=torch.float64)
    assert torch.equal(mixer(x), x)


@pytest.mark.parametrize("name", ["afno", "afno_2d"])
def test_the_layers_keep_float32_under_autocast(name: str):
    mixer, x = moved(name, (3, 4), 0.01).float(), torch.randn(2, 12, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x)
    torch.testing.assert_close(y, mixer.double()(x.double()).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["afno", "afno_2d"])
def test_parameters_are_the_papers(name: str):
    mixer = build(name, 768, causal=False, grid=(14, 14))
    shapes = {name: tuple(p.shape) for name, p in mixer.named_parameters()}
    assert shapes["weight_1"] == shapes["weight_2"] == (8, 96, 96, 2)
    assert shapes["bias_1"] == shapes["bias_2"] == (8, 96, 2)
    for parameter in mixer.parameters():
        assert parameter.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("afno", {"blocks": 3}, "afno: blocks=3 must divide dim=8"),
        ("afno", {"blocks": 0}, "blocks=0 must divide dim=8"),
        ("afno", {"threshold": -0.1}, "threshold=-0.1 must not be negative"),
        ("afno_2d", {"blocks": 5}, "afno_2d: blocks=5 must divide dim=8"),
        ("afno_2d", {"grid": (0, 4)}, "must have at least one row and one column"),
    ],
)
def test_bad_keywords_get_one_clear_line(name: str, keywords: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        build(name, 8, causal=False, **{"grid": (3, 4), **keywords})
    assert "\n" not in str(caught.value)
