"""The fused gate is its definition, with first and second derivatives (triton's interpreter)."""

import pytest
import torch
from torch.nn.functional import silu

from mixers.ops.gate import halves_in_one_pass, one_pass, silu_gate_halves


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
    y, expected = one_pass(u, x), silu(u.double()) * x.double()
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
    found = torch.autograd.grad(one_pass(u, x), (u, x), weight)
    for one, other in zip(found, torch.autograd.grad(silu(u) * x, (u, x), weight), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_second_derivatives_are_the_definitions(frozen: int | None):
    parts, seconds = drawn(3, 5), []
    leaves = [part.requires_grad_(place != frozen) for place, part in enumerate(parts) if place != frozen]
    if frozen is not None:
        parts[frozen].requires_grad_(False)
    for y in (one_pass(*parts), silu(parts[0]) * parts[1]):
        first = torch.autograd.grad(y.pow(3).sum(), leaves, create_graph=True)
        seconds.append(torch.autograd.grad(sum(part.square().sum() for part in first), leaves))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)


def test_what_it_cannot_take_is_refused():
    u, x = drawn(3, 5)
    for first, second in ((u.double(), x.double()), (u, x.contiguous()), (u, x.half()), (u[:, ::2], x[:, ::2])):
        with pytest.raises(ValueError, match="one shape, one dense storage and one dtype"):
            one_pass(first, second)


@pytest.mark.parametrize("shape", [(2,), (3, 10), (4, 2, 2600)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_halves_are_gated_as_the_reference_has_it(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float):
    torch.manual_seed(0)
    halves = (4 * torch.randn(shape)).to(dtype).requires_grad_()
    exact = halves.detach().double().requires_grad_()
    width = shape[-1] // 2
    weight = torch.randn(*shape[:-1], width).to(dtype)
    y, expected = halves_in_one_pass(halves), silu_gate_halves(exact)
    torch.testing.assert_close(expected, silu(exact[..., :width]) * exact[..., width:])
    found = (y, *torch.autograd.grad(y, halves, weight))
    wanted = (expected, *torch.autograd.grad(expected, exact, weight.double()))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= tolerance * other.norm()


def test_a_gradient_of_halves_of_another_storage_is_understood():
    halves, weight = torch.randn(2, 3, 10, requires_grad=True), torch.randn(5, 3, 2).permute(2, 1, 0)
    found, wanted = (
        torch.autograd.grad(gate(halves), halves, weight)[0] for gate in (halves_in_one_pass, silu_gate_halves)
    )
    torch.testing.assert_close(found, wanted)


def test_second_derivatives_by_halves_are_the_definitions():
    halves, seconds = torch.randn(3, 10, requires_grad=True), []
    for gate in (halves_in_one_pass, silu_gate_halves):
        (first,) = torch.autograd.grad(gate(halves).pow(3).sum(), halves, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), halves)[0])
    torch.testing.assert_close(*seconds)


def test_halves_that_it_cannot_take_are_refused():
    rows = torch.randn(3, 10)
    for halves in (rows.double(), rows[:, :9], rows[:, :8], rows[:0]):
        with pytest.raises(ValueError, match="side by side"):
            halves_in_one_pass(halves)
    with pytest.raises(ValueError, match="3 numbers have no halves"):
        silu_gate_halves(rows[:, :3])
