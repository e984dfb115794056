"""The fused relative position encoder is its definition, with first and second derivatives (triton's interpreter)."""

import pytest
import torch

from mixers.ops.encoder import encode, encode_reference
from mixers.toeplitz.rpe import RelativePositionEncoder


def drawn(count: int, width: int, layers: int):
    """Lags, and parameters that ask for gradients."""
    torch.manual_seed(count)
    weights = torch.randn(layers, width, width) / width**0.5
    parameters = torch.randn(width), weights, torch.randn(layers + 1, width)
    return torch.arange(count).float() - count // 3, *(part.requires_grad_() for part in parameters)


@pytest.mark.parametrize(("count", "width", "layers"), [(1, 8, 1), (31, 64, 6), (32, 16, 2), (33, 24, 3), (80, 128, 1)])
def test_it_is_the_reference_with_its_gradients(count, width, layers):
    lags, *parameters = drawn(count, width, layers)
    weight = torch.randn(count, width)
    fused, reference = encode(lags, *parameters), encode_reference(lags, *parameters)
    torch.testing.assert_close(fused, reference, rtol=1e-4, atol=1e-5)
    gradients = (torch.autograd.grad((y * weight).sum(), parameters) for y in (fused, reference))
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_second_derivatives_are_the_references():
    lags, *parameters = drawn(20, 16, 2)
    seconds = []
    for function in (encode, encode_reference):
        first = torch.autograd.grad(function(lags, *parameters).square().sum(), parameters, create_graph=True)
        seconds.append(torch.autograd.grad(sum(part.square().sum() for part in first), parameters))
    for one, other in zip(*seconds, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


def test_the_module_means_the_same_by_it():
    torch.manual_seed(0)
    module = RelativePositionEncoder(5, width=24, layers=3)
    lags = torch.arange(-40, 41)
    first, *inner, last = module.linears
    assert module.fused
    hidden = module._fused(first, inner, lags[:, None].float())
    torch.testing.assert_close(last(hidden), module(lags, 41), rtol=1e-4, atol=1e-5)
