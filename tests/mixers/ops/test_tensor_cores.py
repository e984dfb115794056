"""Products in tiles are the dense one with its gradients: the kernels, run by triton's interpreter."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mixers.ops.toeplitz import prepare, toeplitz_matmul

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3}  # the interpreter has no bfloat16


def results(coefficients, x, weight, causal, backend):
    """The product and its gradients, in float64."""
    leaves = coefficients.clone().requires_grad_(), x.clone().requires_grad_()
    y = toeplitz_matmul(*leaves, causal=causal, backend=backend)
    return [part.double() for part in (y, *torch.autograd.grad((y * weight.to(y.dtype)).sum(), leaves))]


def expect_near(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@st.composite
def products(draw):
    batch, length, dim = draw(st.integers(1, 4)), draw(st.integers(1, 200)), draw(st.integers(1, 2))
    return batch, length, dim, draw(st.booleans()), draw(st.integers(0, 999))


@pytest.mark.parametrize("dtype", TOLERANCE)
@given(products())
@settings(max_examples=6)
def test_products_are_dense_with_their_gradients(dtype, product):
    batch, length, dim, causal, seed = product
    torch.manual_seed(seed)
    coefficients = torch.randn(length if causal else 2 * length - 1, dim)
    x, weight = torch.randn(batch, length, dim).to(dtype), torch.randn(batch, length, dim).to(dtype)
    fast = results(coefficients, x, weight, causal, "tiles")
    dense = results(coefficients.double(), x.double(), weight.double(), causal, "dense")
    expect_near(fast, dense, TOLERANCE[dtype])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 129, 257])
def test_lengths_around_the_width_of_a_tile(length, causal):
    coefficients = torch.randn(length if causal else 2 * length - 1, 2)
    x, weight = torch.randn(1, length, 2), torch.randn(1, length, 2)
    dense = results(coefficients.double(), x.double(), weight.double(), causal, "dense")
    expect_near(results(coefficients, x, weight, causal, "tiles"), dense, 1e-5)


def test_the_future_does_not_move_the_blocks_before_it():
    coefficients, x = torch.randn(300, 2), torch.randn(1, 300, 2).half()
    other = x.clone()
    other[:, 150:] = 100 * torch.randn(1, 150, 2)
    first, second = (toeplitz_matmul(coefficients, each, causal=True, backend="tiles").float() for each in (x, other))
    assert torch.equal(first[:, :128], second[:, :128])


def test_coefficients_of_zero_give_zero():
    coefficients, x = torch.zeros(70, 2, requires_grad=True), torch.randn(2, 70, 2, requires_grad=True)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="tiles")
    dcoefficients, dx = torch.autograd.grad(y.sum(), (coefficients, x))
    assert not y.any()
    assert not dx.any()
    assert dcoefficients.isfinite().all()


@pytest.mark.parametrize(("size", "input_size"), [(1e-6, 1e3), (1e6, 1e-3)])
def test_float16_holds_coefficients_of_any_size(size, input_size):
    coefficients, x = size * torch.randn(70, 2), (input_size * torch.randn(2, 70, 2)).half()
    y = toeplitz_matmul(coefficients, x, causal=True, backend="tiles")
    expect_near([y.double()], [toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="dense")], 2e-3)


@pytest.mark.parametrize("storage", ["channel first", "every other", "expanded"])
def test_any_storage(storage):
    x = torch.randn(2, 70, 3)
    if storage == "channel first":
        x = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif storage == "every other":
        x = torch.stack([x, -x], dim=2)[:, :, 0]
    else:
        x = x[:, :1].expand_as(x)
    coefficients, weight = torch.randn(70, 3), torch.randn(2, 70, 3)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="tiles")
    assert y.stride() == torch.empty_like(x).stride()
    dense = results(coefficients.double(), x.double(), weight.double(), True, "dense")
    expect_near(results(coefficients, x, weight, True, "tiles"), dense, 1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_prepared_serves_shorter_sequences(causal):
    coefficients = torch.randn(150 if causal else 299, 2, requires_grad=True)
    x, weight = torch.randn(2, 70, 2), torch.randn(2, 70, 2)
    prepared = prepare(coefficients, 150, x.dtype, backend="tiles")
    y = toeplitz_matmul(prepared, x, causal=causal)
    known = coefficients[:70] if causal else coefficients[80:219]
    expected = toeplitz_matmul(known, x, causal=causal, backend="dense")
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    for one, other in zip(*(torch.autograd.grad((z * weight).sum(), coefficients) for z in (y, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_what_cannot_run_is_refused(monkeypatch):
    coefficients, x = torch.ones(5, 2, requires_grad=True), torch.ones(1, 5, 2)
    with pytest.raises(ValueError, match=r"takes float32, float16 and bfloat16, not torch.float64"):
        toeplitz_matmul(coefficients, x.double(), causal=True, backend="tiles")
    with pytest.raises(ValueError, match=r"takes float32, float16 and bfloat16, not torch.float64"):
        prepare(coefficients, 5, torch.float64, backend="tiles")
    with pytest.raises(ValueError, match=r"prepared for x of torch.float16, not torch.float32"):
        toeplitz_matmul(prepare(coefficients, 5, torch.float16, backend="tiles"), x, causal=True)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="tiles")
    (first,) = torch.autograd.grad(y.square().sum(), coefficients, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="needs a GPU, not x on cpu"):
        toeplitz_matmul(coefficients, x, causal=True, backend="tiles")


@pytest.mark.parametrize("causal", [True, False])
def test_every_multiplication_is_counted(causal):
    importlib.import_module("mixers.ops.kernels.tiles")  # a counter knows what was registered before it
    coefficients, x = (
        torch.randn(10 if causal else 19, 3, requires_grad=True),
        torch.randn(2, 10, 3, requires_grad=True),
    )
    with FlopCounterMode(display=False) as counter:
        toeplitz_matmul(coefficients, x, causal=causal, backend="tiles").sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 3 * 2 * (55 if causal else 100)  # forward and two gradients
