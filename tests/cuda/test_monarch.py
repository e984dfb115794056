"""Transforms on tensor cores are the exact product, with its gradients, wherever they may be used."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixers.ops.toeplitz import prepare, toeplitz_backend, toeplitz_matmul

TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 6e-4, torch.float32: 7e-4}
"""Relative errors in the whole, of the product and its gradients."""


@pytest.fixture(autouse=True)
def float32_may_be_rounded():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def expect_exact(coefficients, x, weight, *, causal, tolerance):
    """Against transforms of float64 numbers."""
    results = []
    for backend, wide in (("monarch", x.dtype), ("fft", torch.float64)):
        leaves = [part.detach().clone().requires_grad_() for part in (coefficients, x)]
        leaves = [leaf if wide == x.dtype else leaf.detach().to(wide).requires_grad_() for leaf in leaves]
        y = toeplitz_matmul(*leaves, causal=causal, backend=backend)
        results.append((y, *torch.autograd.grad(y, leaves, weight.to(y.dtype))))
    for found, exact in zip(*results, strict=True):
        assert (found.double() - exact).norm() <= tolerance * exact.norm()


def draw_tensors(batch, length, dim, causal, dtype):
    coefficients = torch.randn(length if causal else 2 * length - 1, dim, device="cuda")
    x, weight = torch.randn(2, batch, length, dim, device="cuda").to(dtype)
    return coefficients, x, weight


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("batch", "length", "dim"),
    [
        *((1, 1, 3), (5, 511, 2), (9, 513, 3), (1, 1025, 1), (3, 2048, 300), (2, 4095, 2), (3, 4097, 2), (5, 8192, 3)),
        *((1, 12_000, 3), (2, 16_384, 2), (1, 20_001, 3), (3, 32_768, 2)),
    ],
)
def test_every_size_of_transform(batch, length, dim, dtype, causal):
    torch.manual_seed(length)
    expect_exact(*draw_tensors(batch, length, dim, causal, dtype), causal=causal, tolerance=TOLERANCE[dtype])


@given(
    st.integers(1, 20),
    st.integers(1, 3000),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(sorted(TOLERANCE, key=str)),
)
@settings(max_examples=40, deadline=None)
def test_any_shape(batch, length, dim, causal, dtype):
    torch.manual_seed(0)
    few = 1 + 3 / (batch * length * dim) ** 0.5  # single numbers may all be rounded badly
    expect_exact(*draw_tensors(batch, length, dim, causal, dtype), causal=causal, tolerance=few * TOLERANCE[dtype])


@pytest.mark.parametrize("size_of_x", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("size", [1e-8, 1.0, 1e6])
def test_numbers_of_any_size(size, size_of_x):
    torch.manual_seed(0)
    coefficients, x, weight = draw_tensors(3, 700, 2, True, torch.bfloat16)
    weight = (weight.float() / size_of_x).bfloat16()  # the gradient by the coefficients is as large as ever
    expect_exact(size * coefficients, x * size_of_x, weight, causal=True, tolerance=4e-3)


def test_the_largest_numbers_of_float16_do_not_overflow():
    for length in (512, 8192, 32_768):
        x, coefficients = torch.full((1, length, 1), 65_000.0), torch.full((length, 1), 1 / length)  # a running mean
        x = x.half().cuda()
        expect_exact(coefficients.cuda(), x, torch.ones_like(x), causal=True, tolerance=2e-3)


def test_each_sequence_is_rounded_by_its_own_size():
    torch.manual_seed(0)
    coefficients, x, _ = draw_tensors(7, 700, 2, True, torch.float16)
    sizes = torch.tensor([1e-3, 1e2, 1.0, 1e-2, 1e2, 1e-3, 1e2], device="cuda").half()[:, None, None]
    y = toeplitz_matmul(coefficients, x * sizes, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), (x * sizes).double(), causal=True, backend="fft")
    assert ((y - exact).norm(dim=1) <= 1e-3 * exact.norm(dim=1)).all()


def test_the_future_moves_the_past_by_roundings_alone():
    torch.manual_seed(0)
    coefficients, x, _ = draw_tensors(2, 3000, 3, True, torch.float16)
    other = x.clone()
    other[:, 1500:] = 100 * torch.randn_like(x[:, 1500:])
    first, second = (toeplitz_matmul(coefficients, each, causal=True, backend="monarch").float() for each in (x, other))
    assert (first - second)[:, :1500].abs().max() <= 1e-3 * second.abs().max()


def test_zeros_give_zeros_and_bad_numbers_stay_in_their_sequence():
    coefficients, x, _ = draw_tensors(3, 600, 2, True, torch.bfloat16)
    assert not toeplitz_matmul(0 * coefficients, x, causal=True, backend="monarch").any()
    assert not toeplitz_matmul(coefficients, 0 * x, causal=True, backend="monarch").any()
    x[1, 300] = torch.inf
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    assert y[[0, 2]].isfinite().all()
    assert not y[1].isfinite().all()


@pytest.mark.parametrize("storage", ["channel first", "every other", "expanded", "from an odd place"])
def test_any_storage(storage):
    torch.manual_seed(0)
    coefficients, x, weight = draw_tensors(2, 704, 3, True, torch.bfloat16)
    if storage == "channel first":
        x = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif storage == "every other":
        x = torch.stack([x, -x], dim=2)[:, :, 0]
    elif storage == "expanded":
        x = x[:, :1].expand_as(x)
    else:
        flat = torch.empty(x.numel() + 1, device="cuda", dtype=x.dtype)[1:]
        x = flat.view(3, 2, 704).copy_(x.permute(2, 0, 1)).permute(1, 2, 0)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    assert y.stride() == torch.empty_like(x).stride()
    expect_exact(coefficients, x, weight, causal=True, tolerance=4e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_prepared_serves_shorter_sequences(causal):
    torch.manual_seed(0)
    coefficients, x, weight = draw_tensors(2, 1500, 3, causal, torch.float16)
    leaf = coefficients.clone().requires_grad_()
    y = toeplitz_matmul(prepare(leaf, 1500, x.dtype, backend="monarch"), x[:, :700], causal=causal)
    (found,) = torch.autograd.grad(y, leaf, weight[:, :700])
    known = slice(0, 700) if causal else slice(800, 800 + 1399)
    part = coefficients[known].double().requires_grad_()
    exact = toeplitz_matmul(part, x[:, :700].double(), causal=causal, backend="fft")
    (wanted,) = torch.autograd.grad(exact, part, weight[:, :700].double())
    assert (y.double() - exact).norm() <= 6e-4 * exact.norm()
    assert (found[known].double() - wanted).norm() <= 6e-4 * wanted.norm()
    found[known] = 0
    assert found.norm() <= 1e-3 * wanted.norm()


def test_auto_takes_tiles_then_transforms_then_fft():
    torch.set_float32_matmul_precision("highest")
    lengths = (1, 512, 513, 32_768, 32_769)
    for dtype in (torch.bfloat16, torch.float16):
        found = [toeplitz_backend("auto", torch.empty(1, length, 1, device="cuda", dtype=dtype)) for length in lengths]
        assert found == ["tiles", "tiles", "monarch", "monarch", "fft"]
    assert toeplitz_backend("auto", torch.empty(1, 600, 1, device="cuda")) == "fft"
    with pytest.raises(ValueError, match="rounds float32"):
        toeplitz_backend("monarch", torch.empty(1, 600, 1, device="cuda"))
    torch.set_float32_matmul_precision("high")
    assert toeplitz_backend("auto", torch.empty(1, 600, 1, device="cuda")) == "monarch"


def test_the_first_thing_a_thread_does():
    """A thread of autograd's has not used the device before."""
    coefficients, x, _ = draw_tensors(1, 600, 1, True, torch.bfloat16)
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    found = []
    thread = threading.Thread(target=lambda: found.append(toeplitz_matmul(prepared, x, causal=True)), name="another")
    prepared = prepare(coefficients, 600, x.dtype, backend="monarch")
    thread.start()
    thread.join()
    assert (found[0].double() - exact).norm() <= 4e-3 * exact.norm()


def test_the_second_derivative_raises():
    coefficients, x, _ = draw_tensors(1, 300, 2, True, torch.bfloat16)
    leaf = coefficients.requires_grad_()
    y = toeplitz_matmul(leaf, x, causal=True, backend="monarch")
    (first,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_kernels_run_on_the_stream_of_their_caller():
    """Kernels run on the stream of their caller: what a side stream made is ready for the default one after a wait."""
    torch.manual_seed(0)
    coefficients, x, _ = draw_tensors(8, 4096, 64, True, torch.bfloat16)
    expected = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(y, expected)
