"""The fused gate is its definition, with first and second derivatives (triton's interpreter)."""

import pytest
import torch

from mixers.ops.gate import silu_gate, silu_gate_reference


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """u and x, stored channel-first, with large and small numbers among them."""
    torch.manual_seed(0)
    parts = (torch.randn(2, *shape) * torch.tensor([8.0, 1.0]).view(2, *[1] * len(shape))).to(dtype)
    return [part.movedim(0, -1).requires_grad_() for part in parts]


@pytest.mark.parametrize("shape", [(1,), (3, 5), (4, 2, 300)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_it_is_the_reference_with_its_gradients(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float):
    u, x = drawn(*shape, dtype=dtype)
    weight = torch.randn_like(u)
    y, expected = silu_gate(u, x), silu_gate_reference(u.double(), x.double())
    assert y.dtype == dtype
    assert y.stride() == u.stride()
    found = (y, *torch.autograd.grad(y, (u, x), weight))
    wanted = (expected, *torch.autograd.grad(expected, (u, x), weight.double()))
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other.double()).norm() <= tolerance * other.double().norm()


def test_a_gradient_of_another_storage_is_understood():
    u, x = drawn(4, 2, 3)
    weight = torch.randn(u.shape)
    assert weight.stride() != u.stride()
    found = torch.autograd.grad(silu_gate(u, x), (u, x), weight)
    for one, other in zip(found, torch.autograd.grad(silu_gate_reference(u, x), (u, x), weight), strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivatives_are_the_references():
    u, x = drawn(3, 5)
    seconds = []
    for function in (silu_gate, silu_gate_reference):
        first = torch.autograd.grad(function(u, x).square().sum(), (u, x), create_graph=True)
        seconds.append(torch.autograd.grad(sum(part.square().sum() for part in first), (u, x)))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)
