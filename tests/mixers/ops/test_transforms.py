"""Transforms on tensor cores are the exact product, with its gradients, wherever they may be used.

With --cuda, on a GPU; else the same source runs in the emulator beside this file.
"""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixers.ops import tensor_cores
from mixers.ops.kernels import monarch
from mixers.ops.toeplitz import prepare, toeplitz_matmul
from tests.mixers.ops.emulator import EmulatedKernel

TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 5.5e-4, torch.float32: 6.5e-4}
"""Relative errors in the whole, of gradients."""

EXACTER = {torch.bfloat16: 2.2e-3, torch.float16: 5e-4, torch.float32: 5e-4}
"""The same of the product, where numbers are many."""


@pytest.fixture(scope="module", autouse=True)
def device(request: pytest.FixtureRequest):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # float32 may be rounded
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--cuda"):
            patch.setattr(monarch, "kernel", EmulatedKernel)
            patch.setattr(tensor_cores, "require_gpu", lambda backend, name, tensor: None)
            patch.setattr(tensor_cores, "capability", lambda device: (9, 0))
        yield "cuda" if request.config.getoption("--cuda") else "cpu"
    torch.set_float32_matmul_precision(before)


def expect_exact(coefficients, x, weight, *, causal, tolerance, silu=False):
    """Against transforms of float64 numbers."""
    results = []
    for backend, leaves in (("monarch", (coefficients, x)), ("fft", (coefficients.double(), x.double()))):
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        y = toeplitz_matmul(*leaves, causal=causal, backend=backend, silu=silu)
        results.append((y, *torch.autograd.grad(y, leaves, weight.to(y.dtype))))
    for found, exact in zip(*results, strict=True):
        assert (found.double() - exact).norm() <= tolerance * exact.norm()


def tensors(batch, length, dim, causal, dtype, device):
    torch.manual_seed(length)
    coefficients = torch.randn(length if causal else 2 * length - 1, dim)
    x, weight = torch.randn(2, batch, length, dim).to(dtype)
    return coefficients.to(device), x.to(device), weight.to(device)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("batch", "length", "dim", "dtype"),
    [
        *((1, 1, 30, torch.bfloat16), (5, 511, 2, torch.float16), (4, 512, 1, torch.float32)),
        *((9, 513, 3, torch.bfloat16), (3, 1024, 2, torch.float16), (1, 1025, 1, torch.float32)),
        *((3, 2048, 5, torch.bfloat16), (2, 4095, 2, torch.float16), (1, 4096, 1, torch.float32)),
        *((3, 4097, 1, torch.bfloat16), (1, 8192, 2, torch.float16), (2, 16_384, 1, torch.bfloat16)),
        *((1, 4090, 1, torch.bfloat16), (1, 8001, 2, torch.bfloat16), (1, 16_000, 1, torch.bfloat16)),
        *((1, 8193, 1, torch.float16), (2, 8193, 1, torch.float32)),
    ],
)
def test_every_size_of_transform(batch, length, dim, dtype, causal, device):
    coefficients, x, weight = tensors(batch, length, dim, causal, dtype, device)
    expect_exact(coefficients, x, weight, causal=causal, tolerance=TOLERANCE[dtype])
    if length > 1000:
        y = toeplitz_matmul(coefficients, x, causal=causal, backend="monarch").double()
        exact = toeplitz_matmul(coefficients.double(), x.double(), causal=causal, backend="fft")
        assert (y - exact).norm() <= EXACTER[dtype] * exact.norm()


@pytest.mark.parametrize(
    ("batch", "length", "dtype"),
    [
        *((3, 512, torch.bfloat16), (2, 511, torch.float16), (3, 600, torch.float32), (1, 601, torch.float32)),
        *((1, 4096, torch.float16), (1, 5000, torch.bfloat16), (2, 4099, torch.bfloat16)),
    ],
)
@pytest.mark.parametrize("causal", [True, False])
def test_silu_on_the_way(batch, length, dtype, causal, device):
    """Of x, and in its gradients; of numbers too large for exp as well."""
    coefficients, x, weight = tensors(batch, length, 1, causal, dtype, device)
    x[:, ::100] *= 100
    expect_exact(coefficients, x, weight, causal=causal, tolerance=1.2 * TOLERANCE[dtype], silu=True)
    if length > 600:
        return
    prepared = prepare(coefficients, length, dtype, backend="monarch")
    y = toeplitz_matmul(prepared, x, causal=causal, silu=True)
    assert torch.equal(y, toeplitz_matmul(coefficients, x, causal=causal, backend="monarch", silu=True))


def test_the_longest_sequences(device):
    for length in (20_001,) if device == "cpu" else (32_768, 131_072):
        expect_exact(*tensors(1, length, 1, False, torch.bfloat16, device), causal=False, tolerance=4e-3)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("batch", "length", "dtype", "silu"),
    [(2, 513, torch.bfloat16, False), (1, 1500, torch.float16, True), (3, 2048, torch.bfloat16, True)],
)
def test_longer_sequences_in_blocks(batch, length, dtype, silu, causal, device, monkeypatch):
    """With transforms of 512, as if the chip held no more; for fewer tokens than were prepared for, too."""
    monkeypatch.setattr(tensor_cores, "longest_transform", lambda device: 512)
    coefficients, x, weight = tensors(batch, length, 2, causal, dtype, device)
    expect_exact(coefficients, x, weight, causal=causal, tolerance=1.1 * TOLERANCE[dtype], silu=silu)
    prepared = prepare(coefficients, length, dtype, backend="monarch")
    y = toeplitz_matmul(prepared, x, causal=causal).double()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=causal, backend="fft")
    assert (y - exact).norm() <= EXACTER[dtype] * exact.norm()  # what blocks give is rounded once
    for fewer in (9, length // 2, length - 1):
        some = coefficients[:fewer] if causal else coefficients[length - fewer : length + fewer - 1]
        expected = toeplitz_matmul(some.double(), x[:, :fewer].double(), causal=causal, backend="fft")
        found = toeplitz_matmul(prepared, x[:, :fewer], causal=causal).double()
        assert (found - expected).norm() <= 2 * TOLERANCE[dtype] * expected.norm()  # single numbers


@given(st.integers(1, 9), st.integers(1, 512), st.integers(1, 3), st.booleans())
def test_any_shape(device, batch, length, dim, causal):
    coefficients, x, weight = tensors(batch, length, dim, causal, torch.float16, device)
    few = 1 + 3 / (batch * length * dim) ** 0.5  # single numbers may all be rounded badly
    expect_exact(coefficients, x, weight, causal=causal, tolerance=6e-4 * few)


@pytest.mark.parametrize("size_of_x", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("size", [1e-8, 1.0, 1e6])
def test_numbers_of_any_size(size, size_of_x, device):
    coefficients, x, weight = tensors(3, 300, 2, True, torch.bfloat16, device)
    weight = (weight.float() / size_of_x).bfloat16()  # the gradient by the coefficients is as large as ever
    expect_exact(size * coefficients, x * size_of_x, weight, causal=True, tolerance=4e-3)


@pytest.mark.parametrize(("length", "place"), [(1500, 0), (1500, 300), (1500, 1499), (2048, 2047)])
def test_one_number_much_larger_than_all_others(length, place, device):
    """Whichever thread reads it, and when."""
    coefficients, x, _ = tensors(2, length, 2, True, torch.float16, device)
    x = x / 1000
    x[:, place] = 60_000
    coefficients = coefficients / 10
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    assert (y - exact).abs().max() <= 1e-3 * 60_000 * coefficients.abs().max()


def test_large_numbers_and_small_coefficients_do_not_overflow_on_their_way(device):
    x = torch.full((1, 300, 1), 1e38, device=device).bfloat16()
    coefficients = torch.full((300, 1), 1e-8 / 300, device=device)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    assert (y - exact).norm() <= 4e-3 * exact.norm()


def test_permission_to_round_float32_is_asked_in_every_product(device):
    coefficients, x, _ = tensors(1, 300, 2, True, torch.float32, device)
    prepared = prepare(coefficients, 300, x.dtype, backend="monarch")
    torch.set_float32_matmul_precision("highest")
    try:
        with pytest.raises(ValueError, match="rounds float32"):
            toeplitz_matmul(prepared, x, causal=True)
    finally:
        torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize("batch", [1, 2])
def test_the_gradient_by_coefficients_of_large_and_small_numbers_does_not_overflow_on_its_way(batch, device):
    coefficients, x, weight = tensors(batch, 2049, 1, True, torch.bfloat16, device)
    x, weight = x.abs().clamp_max(2.5) * 1e38, weight.abs() * 1e-38  # transforms with one large number
    results = []
    for backend, parts in (
        ("monarch", (coefficients, x, weight)),
        ("fft", (coefficients.double(), x.double(), weight)),
    ):
        leaf = parts[0].requires_grad_()
        y = toeplitz_matmul(leaf, parts[1], causal=True, backend=backend)
        results.append(torch.autograd.grad(y, leaf, parts[2].to(y.dtype))[0].double())
    found, exact = results
    assert (found - exact).norm() <= 4e-3 * exact.norm()


@pytest.mark.parametrize(("size", "size_of_x"), [(1e-8, 6e37), (1e3, 1e-39)])
def test_the_largest_and_the_smallest_numbers_of_bfloat16(size, size_of_x, device):
    coefficients, x, _ = tensors(2, 300, 2, True, torch.bfloat16, device)
    coefficients, x = size * coefficients, (x * size_of_x).clamp(-3e38, 3e38)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    assert x.abs().max() > 2.0**127 or x.abs().max() < 2.0**-126
    assert (y - exact).norm() <= 4e-3 * exact.norm()


@pytest.mark.parametrize("length", [300, 2000])  # the latter's gradient in one kernel
def test_nothing_comes_of_zeros(length, device):
    coefficients, x, weight = (0 * tensor for tensor in tensors(1, length, 1, True, torch.bfloat16, device))
    leaves = coefficients.requires_grad_(), x.requires_grad_()
    y = toeplitz_matmul(*leaves, causal=True, backend="monarch")
    for found in (y, *torch.autograd.grad(y, leaves, weight)):
        assert (found == 0).all()


@pytest.mark.parametrize(
    ("dtype", "length"), [*itertools.product((torch.bfloat16, torch.float16), (512, 8192)), (torch.bfloat16, 32_768)]
)
def test_the_largest_numbers_of_float16_do_not_overflow(length, dtype, device):
    """Constant sequences and coefficients, whose transforms are one large number, up to a result of 64,000: before they
    are multiplied, all are just below a power of two."""
    x = torch.full((1, length, 1), 4000.0, device=device).to(dtype)
    coefficients = torch.full((length, 1), 15.999 / length, device=device)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    assert (y - exact).norm() <= {torch.bfloat16: 4e-3, torch.float16: 2e-3}[dtype] * exact.norm()


@pytest.mark.parametrize(("dtype", "length"), [(torch.bfloat16, 8192), (torch.float16, 1024)])
def test_one_coefficient_gives_x_back(dtype, length, device):
    """At lag 0, read by one warp of many."""
    _, x, _ = tensors(1, length, 1, True, dtype, device)
    y = toeplitz_matmul((torch.arange(length, device=device) == 0).float()[:, None], x, causal=True, backend="monarch")
    assert (y.double() - x.double()).norm() <= TOLERANCE[dtype] * x.double().norm()


@pytest.mark.parametrize("causal", [True, False])
def test_coefficients_that_are_part_of_others(causal, device):
    """In rows that begin every 2,200 numbers, where the last one is not the end of four, or lag 0 not the beginning."""
    coefficients, x, _ = tensors(1, 1022, 2, causal, torch.bfloat16, device)
    wide, lags = torch.full((2, 2200), 1e3, device=device), len(coefficients)
    wide[:, :lags] = coefficients.T
    y = toeplitz_matmul(wide[:, :lags].T, x, causal=causal, backend="monarch")
    assert torch.equal(y, toeplitz_matmul(coefficients, x, causal=causal, backend="monarch"))


@pytest.mark.parametrize(
    ("form", "length", "dtype"),  # those above 1,024 tokens in one kernel
    [
        *itertools.product(("constant", "impulses", "waves"), (512, 8192), (torch.bfloat16, torch.float16)),
        ("impulses", 32_768, torch.bfloat16),
    ],
)
def test_gradients_by_coefficients_of_numbers_with_much_structure(form, length, dtype, device):
    """Their transforms are one large number, small ones, or large ones where the other's are small."""
    place = torch.arange(length, device=device)[:, None]
    x, weight = (torch.full((1, length, 1), size, device=device) for size in (60_000.0, 3e-4))
    if form == "impulses":
        x, weight = x * (place == 3), weight * (place == 300)
    elif form == "waves":
        x, weight = x * torch.cos(0.001 * place), weight * torch.cos(0.001 * place + 1) * (1 + torch.cos(3 * place))
    coefficients = torch.ones(length, 1, device=device).requires_grad_()
    x, weight = x.to(dtype), weight.to(dtype)
    (found,) = torch.autograd.grad(
        toeplitz_matmul(coefficients, x, causal=True, backend="monarch"), coefficients, weight
    )
    leaf = coefficients.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(toeplitz_matmul(leaf, x.double(), causal=True, backend="fft"), leaf, weight.double())
    assert (found.double() - exact).norm() <= {torch.bfloat16: 2e-3, torch.float16: 1e-3}[dtype] * exact.norm()


def test_each_sequence_is_rounded_by_its_own_size(device):
    coefficients, x, _ = tensors(7, 300, 2, True, torch.float16, device)
    sizes = torch.tensor([1e-3, 1e2, 1.0, 1e-2, 1e2, 1e-3, 1e2], device=device).half()[:, None, None]
    y = toeplitz_matmul(coefficients, x * sizes, causal=True, backend="monarch").double()
    exact = toeplitz_matmul(coefficients.double(), (x * sizes).double(), causal=True, backend="fft")
    assert ((y - exact).norm(dim=1) <= 1e-3 * exact.norm(dim=1)).all()


def test_each_channel_is_rounded_by_its_own_coefficients(device):
    coefficients, x, weight = tensors(3, 300, 3, False, torch.float16, device)
    coefficients *= torch.tensor([1e-6, 1.0, 1e6], device=device)
    y, weight = toeplitz_matmul(coefficients, x, causal=False, backend="monarch"), weight / 1000
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=False, backend="fft")
    errors, norms = (y.double() - exact)[..., :2].norm(dim=1), exact[..., :2].norm(dim=1)
    assert (errors <= 1e-3 * norms + 1e-7).all()  # what is below float16's smallest numbers aside
    leaf = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(toeplitz_matmul(coefficients, leaf, causal=False, backend="monarch"), leaf, weight)
    assert found[..., :2].isfinite().all()


def test_the_future_moves_the_past_by_roundings_alone(device):
    coefficients, x, _ = tensors(2, 500, 3, True, torch.float16, device)
    other = x.clone()
    other[:, 250:] *= 100
    first, second = (toeplitz_matmul(coefficients, each, causal=True, backend="monarch").float() for each in (x, other))
    assert (first - second)[:, :250].abs().max() <= 1e-3 * second.abs().max()


def test_zeros_give_zeros_and_bad_numbers_stay_in_their_sequence(device):
    coefficients, x, _ = tensors(3, 300, 2, True, torch.bfloat16, device)
    assert not toeplitz_matmul(0 * coefficients, x, causal=True, backend="monarch").any()
    assert not toeplitz_matmul(coefficients, 0 * x, causal=True, backend="monarch").any()
    x[1, 200] = torch.inf
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    assert y[[0, 2]].isfinite().all()
    assert not y[1].isfinite().all(0).any()


@pytest.mark.parametrize("storage", ["channel first", "every other", "expanded", "from an odd place"])
def test_any_storage(storage, device):
    coefficients, x, weight = tensors(2, 304, 3, True, torch.bfloat16, device)
    if storage == "channel first":
        x = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif storage == "every other":
        x = torch.stack([x, -x], dim=2)[:, :, 0]
    elif storage == "expanded":
        x = x[:, :1].expand_as(x)
    else:
        flat = torch.empty(x.numel() + 1, device=device, dtype=x.dtype)[1:]
        x = flat.view(3, 2, 304).copy_(x.permute(2, 0, 1)).permute(1, 2, 0)
    y = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    assert y.stride() == torch.empty_like(x).stride()
    expect_exact(coefficients, x, weight, causal=True, tolerance=4e-3)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_gradient_that_begins_at_an_odd_place(batch, device):
    """Where x does not, so that x alone could be read 16 bytes at a time."""
    coefficients, x, weight = tensors(batch, 4000, 1, True, torch.bfloat16, device)
    flat = torch.empty(weight.numel() + 1, device=device, dtype=x.dtype)[1:]
    odd = flat.view(1, batch, 4000).copy_(weight.permute(2, 0, 1)).permute(1, 2, 0)
    found = []
    for dy in (weight, odd):
        leaf = coefficients.clone().requires_grad_()
        y = toeplitz_matmul(leaf, x, causal=True, backend="monarch")
        found.append(torch.autograd.grad(y, leaf, dy)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_prepared_serves_shorter_sequences(causal, device):
    """Whose own transforms would be smaller."""
    coefficients, x, weight = tensors(2, 600, 3, causal, torch.float16, device)
    leaf = coefficients.clone().requires_grad_()
    y = toeplitz_matmul(prepare(leaf, 600, x.dtype, backend="monarch"), x[:, :300], causal=causal)
    (found,) = torch.autograd.grad(y, leaf, weight[:, :300])
    known = slice(0, 300) if causal else slice(300, 300 + 599)
    part = coefficients[known].double().requires_grad_()
    exact = toeplitz_matmul(part, x[:, :300].double(), causal=causal, backend="fft")
    (wanted,) = torch.autograd.grad(exact, part, weight[:, :300].double())
    assert (y.double() - exact).norm() <= 6e-4 * exact.norm()
    assert (found[known].double() - wanted).norm() <= 6e-4 * wanted.norm()
    found[known] = 0
    assert found.norm() <= 1e-3 * wanted.norm()


def test_a_gradient_that_nobody_wants_is_not_computed(device, monkeypatch):
    coefficients, x, weight = tensors(2, 300, 2, True, torch.bfloat16, device)
    started, original = [], monarch.kernel
    monkeypatch.setattr(monarch, "kernel", lambda name, *rest: started.append(name) or original(name, *rest))
    for wanted, kernels in (("coefficients", ["correlate", "restore"]), ("x", ["product"])):
        leaf = (coefficients if wanted == "coefficients" else x).detach().requires_grad_()
        given = (leaf, x) if wanted == "coefficients" else (coefficients, leaf)
        y = toeplitz_matmul(*given, causal=True, backend="monarch")
        assert started == ["spectrum", "product"]
        torch.autograd.grad(y, leaf, weight)
        assert started[2:] == kernels
        started.clear()


def test_the_second_derivative_raises(device):
    coefficients, x, _ = tensors(1, 300, 2, True, torch.bfloat16, device)
    leaf = coefficients.requires_grad_()
    y = toeplitz_matmul(leaf, x, causal=True, backend="monarch")
    (first,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
