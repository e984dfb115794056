"""Performer against performer-pytorch, and the law of its random features."""

import math

import pytest
import torch
from torch import Tensor

from mixers import build
from mixers.linear.performer import EPSILON, orthogonal_features


def projected(mixer, x: Tensor) -> list[Tensor]:
    """Queries, keys and values (1, H, N, K) of x (1, N, D), which has two heads."""
    q, k, v = mixer.qkv(x).chunk(3, dim=-1)
    return [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in (q, k, v)]


def oracle(mixer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """performer-pytorch's attention over all keys."""
    from performer_pytorch.performer_pytorch import linear_attention, softmax_kernel

    features = [
        softmax_kernel(part, projection_matrix=mixer.directions, is_query=query)
        for part, query in ((q, True), (k, False))
    ]
    return linear_attention(*features, v)


@pytest.fixture
def large():
    """A mixer whose keys are so large that EPSILON and the stabiliser show, and its input."""
    torch.manual_seed(0)

    def make(causal: bool):
        mixer = build("performer", 8, causal=causal, heads=2, features=11, chunk=4).double()
        return mixer, 4 * torch.randn(1, 13, 8, dtype=torch.float64)

    return make


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of distutils, which performer-pytorch imports
def test_bidirectional_performer_is_that_of_performer_pytorch(large):
    mixer, x = large(causal=False)
    expected = oracle(mixer, *projected(mixer, x))
    torch.testing.assert_close(mixer(x), mixer.out(expected.transpose(1, 2).flatten(2)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_causal_performer_is_performer_pytorch_on_every_prefix(large):
    mixer, x = large(causal=True)
    q, k, v = projected(mixer, x)
    prefixes = [oracle(mixer, q[:, :, :end], k[:, :, :end], v[:, :, :end])[:, :, -1:] for end in range(1, 14)]
    expected = torch.cat(prefixes, dim=2)
    torch.testing.assert_close(mixer(x), mixer.out(expected.transpose(1, 2).flatten(2)))
    peaks = (k * 4**-0.25 @ mixer.directions.T).amax(-1).cummax(-1).values
    assert (peaks.diff() > 1).any()  # the stabiliser moves


def test_causal_performer_is_the_double_loop(large):
    """The running stabiliser, written out: the weight of key j at query i, feature by feature."""
    mixer, x = large(causal=True)
    q, k, v = (part[0] for part in projected(mixer, x))
    directions, expected = mixer.directions, torch.zeros(2, 13, 4, dtype=torch.float64)

    def feature(token: Tensor, stabiliser: Tensor) -> Tensor:
        scaled = token / 4**0.25
        return torch.exp(directions @ scaled - scaled @ scaled / 2 - stabiliser) + EPSILON

    for head in range(2):
        for i in range(13):
            query = feature(q[head, i], (directions @ q[head, i]).max() / 4**0.25)
            largest = max((directions @ k[head, j]).max() for j in range(i + 1)) / 4**0.25
            weights = torch.stack([query @ feature(k[head, j], largest) for j in range(i + 1)])
            expected[head, i] = weights / weights.sum() @ v[head, : i + 1]
    torch.testing.assert_close(mixer(x)[0], mixer.out(expected.transpose(0, 1).flatten(1)))


def test_directions_are_orthogonal_in_blocks_and_as_long_as_normal_vectors():
    directions = orthogonal_features(4002, 4, torch.Generator().manual_seed(0)).double()
    assert directions.shape == (4002, 4)
    squares = directions.square().sum(1)
    for block in directions[:4000].unflatten(0, (-1, 4))[:50]:
        torch.testing.assert_close(block @ block.T, block.square().sum(1).diag(), atol=1e-5, rtol=0)
    assert abs(squares.mean() - 4) < 5 * math.sqrt(8 / 4002)  # chi squared with 4 degrees: mean 4, variance 8
    assert abs(squares.var() - 8) < 1.5


def test_every_direction_of_a_block_points_everywhere():
    """LAPACK's QR alone gives the first of a block a first entry of one sign."""
    blocks = orthogonal_features(8000, 4, torch.Generator().manual_seed(0)).unflatten(0, (-1, 4))
    assert (blocks.mean(0).abs() < 5 / math.sqrt(2000)).all()  # standard normal entries


def test_products_of_features_average_to_the_softmax_kernel():
    q, k = torch.tensor([0.7, -0.4, 0.2, 1.0]), torch.tensor([0.5, 0.3, -0.9, 0.8])
    directions = orthogonal_features(80000, 4, torch.Generator().manual_seed(0))
    first, second = (
        torch.exp(directions @ (x / math.sqrt(2)) - x.square().sum() / 4) for x in (q, k)
    )  # K^(1/4) = sqrt(2)
    products = first * second
    error = (products.mean() - torch.exp(q @ k / 2)).abs()
    assert error < 5 * products.std() / math.sqrt(80000)


def test_attention_nears_softmax_as_features_grow():
    torch.manual_seed(0)
    mixer, x = build("performer", 8, causal=False, heads=2, features=40000).double(), torch.randn(1, 9, 8).double()
    q, k, v = projected(mixer, x)
    exact = torch.softmax(q @ k.mT / 2, dim=-1) @ v
    gap = (mixer(x) - mixer.out(exact.transpose(1, 2).flatten(2))).abs().max()
    assert gap < 0.02 * exact.abs().max()


def test_redraw_gives_other_orthogonal_directions():
    mixer = build("performer", 8, causal=True, heads=2)
    assert mixer.directions.shape == (256, 4)
    before = mixer.directions.clone()
    mixer.redraw(torch.Generator().manual_seed(1))
    assert not torch.isclose(mixer.directions, before).any()
    torch.testing.assert_close(mixer.directions, orthogonal_features(256, 4, torch.Generator().manual_seed(1)))


def test_keys_far_above_those_before_leave_finite_gradients_and_no_trace_before():
    mixer = build("performer", 8, causal=True, heads=2, chunk=4)
    x = torch.randn(1, 12, 8)
    x[:, 6] *= 1e4
    x.requires_grad_()
    y = mixer(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(y[:, :6], mixer(x[:, :6]))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"features": 0}, "features=0 must be"), ({"chunk": 0}, "chunk=0 must be"), ({"heads": 3}, "heads=3 must divide")],
)
def test_bad_keywords_get_one_clear_line(keywords: dict, message: str):
    with pytest.raises(ValueError, match=f"performer: {message}") as caught:
        build("performer", 8, causal=True, **keywords)
    assert "\n" not in str(caught.value)
