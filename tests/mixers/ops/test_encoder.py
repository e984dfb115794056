"""The fused relative position encoder is its definition, with first and second derivatives (by the emulator beside this
file)."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mixers.ops import encoder as operations
from mixers.ops.encoder import Lags
from mixers.ops.kernels import encoder
from mixers.ops.kernels.program import compiled, values
from mixers.toeplitz.decay import LearnedDecay
from mixers.toeplitz.rpe import RelativePositionEncoder
from tests.mixers.ops.emulator import EmulatedKernel


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoder, "kernel", EmulatedKernel)


def of_one_row(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """It, given the inner parameters in one row."""

    def given(lags: Lags, divisor: float, rate: Tensor, inner: Tensor, last: Tensor, last_bias: Tensor) -> Tensor:
        width = last.shape[1]
        layers = (len(inner) - 2 * width) // (width**2 + width)
        shapes = [*[(width, width)] * layers, *[(width,)] * (layers + 2)]
        parts = inner.split([math.prod(shape) for shape in shapes])
        inner = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return function(lags, divisor, rate, last, last_bias, *inner)

    return given


encode, encode_reference = of_one_row(operations.encode), of_one_row(operations.encode_reference)


def drawn(count: int, width: int, layers: int, channels: int):
    """Lags, and the rates of decays and parameters, which ask for gradients."""
    torch.manual_seed(count)
    inner = torch.cat([torch.randn(layers * width**2) / width**0.5, torch.randn((layers + 2) * width)])
    parameters = 0.1 * torch.rand(channels), inner, torch.randn(channels, width), torch.randn(channels)
    return Lags(count, -(count // 3), 0.5), [part.requires_grad_() for part in parameters]


SMALL = (
    *((1, 8, 1, 3), (31, 64, 6, 64), (32, 16, 2, 65), (33, 24, 3, 300), (80, 128, 1, 17), (66, 100, 2, 20)),
    *((70, 32, 0, 20), (129, 33, 1, 9), (5, 3, 1, 3)),
)


@pytest.mark.parametrize(
    ("count", "width", "layers", "channels", "divisor"),
    [*((*shape, divisor) for shape in SMALL for divisor in (1.0, 77.0)), (2049, 32, 1, 20, 1.0)],
)
def test_it_is_the_reference_with_its_gradients(count, width, layers, channels, divisor):
    lags, parameters = drawn(count, width, layers, channels)
    weight = torch.randn(count, channels)
    fused, reference = (function(lags, divisor, *parameters) for function in (encode, encode_reference))
    torch.testing.assert_close(fused, reference, rtol=1e-4, atol=1e-4)
    gradients = (torch.autograd.grad((y * weight).sum(), parameters) for y in (fused, reference))
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.parametrize("size", [1e15, 1e-3, 1e-7, 1e-8, 1e-10, 1e-13, 1e-17, 1e-25, 0.0])
def test_hidden_numbers_of_any_size_have_their_gradients(size: float):
    """Near 1e-8, which is added to their norms, and far from it."""
    lags, parameters = drawn(20, 16, 2, 5)
    parameters = [part.detach() * (size if place == 1 else 1) for place, part in enumerate(parameters)]
    results = []
    for function, dtype in ((encode, torch.float32), (encode_reference, torch.float64)):
        leaves = [part.to(dtype).requires_grad_() for part in parameters]
        y = function(lags, 1.0, *leaves)
        results.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_gradients_of_any_size_have_their_gradients(size: float):
    lags, parameters = drawn(33, 24, 3, 300)
    weight = size * torch.randn(33, 300)
    gradients = (torch.autograd.grad(f(lags, 1.0, *parameters), parameters, weight) for f in (encode, encode_reference))
    for one, other in zip(*gradients, strict=True):
        assert ((one - other) / size).norm() <= 1e-5 * (other / size).norm()


@pytest.mark.parametrize("slope", [1e-8, 1e-13, 1e-16])
def test_without_biases_small_slopes_count(slope: float):
    """What the first layer gives is next to nothing then, and the next one makes it large."""
    lags, parameters = drawn(20, 16, 2, 5)
    inner = parameters[1].detach().clone()
    inner[2 * 16**2 :] = 0
    inner[-16:] = slope * torch.randn(16)
    parameters = [parameters[0].detach(), inner, parameters[2].detach(), torch.zeros(5)]
    exact = encode_reference(lags, 1.0, *(part.double() for part in parameters))
    assert (encode(lags, 1.0, *parameters) - exact).norm() <= 1e-4 * exact.norm()


@pytest.mark.filterwarnings("ignore:overflow")
def test_norms_that_are_infinite_leave_numbers():
    """As squares of hidden numbers of 1e20 are in float32."""
    lags, parameters = drawn(20, 16, 2, 5)
    parameters[1] = (parameters[1].detach() * 1e20).requires_grad_()
    y = encode(lags, 1.0, *parameters)
    assert all(part.isfinite().all() for part in (y, *torch.autograd.grad(y.square().sum(), parameters)))


@pytest.mark.parametrize("place", [1, 2])
def test_parameters_may_begin_anywhere(place: int):
    """The inner ones, or the last, as part of others."""
    lags, parameters = drawn(20, 32, 1, 20)
    exact = encode_reference(lags, 1.0, *parameters)
    part = parameters[place]
    parameters[place] = torch.cat([torch.zeros(1), part.flatten()])[1:].view_as(part)
    torch.testing.assert_close(encode(lags, 1.0, *parameters), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [0, 1])
def test_each_layer_may_begin_anywhere(layer: int):
    torch.manual_seed(0)
    rate, last, last_bias = 0.1 * torch.rand(20), torch.randn(20, 32), torch.randn(20)
    inner = [*torch.randn(2, 32, 32), *torch.randn(4, 32)]
    exact = operations.encode_reference(Lags(31), 1.0, rate, last, last_bias, *inner)
    inner[layer] = torch.cat([torch.zeros(1), inner[layer].flatten()])[1:].view(32, 32)
    found = operations.encode(Lags(31), 1.0, rate, last, last_bias, *inner)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_parameters_have_their_gradients_wherever_they_begin(place: int):
    """V, c or W_1."""
    torch.manual_seed(0)
    parts = [torch.randn(20, 32), torch.randn(20), torch.randn(32, 32), *torch.randn(3, 32)]
    parts[place] = torch.cat([torch.zeros(1), parts[place].flatten()])[1:].view_as(parts[place])
    leaves, results = [part.requires_grad_() for part in parts], []
    for function in (operations.encode, operations.encode_reference):
        y = function(Lags(31), 1.0, 0.1 * torch.ones(20), *leaves)
        results.append(torch.autograd.grad(y.square().sum(), leaves))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_the_largest_parameters_count_and_what_is_no_number_stays_none():
    lags, parameters = drawn(20, 16, 2, 5)
    rate, inner, last, last_bias = (part.detach() for part in parameters)
    large = torch.zeros_like(last)
    large[range(5), range(0, 15, 3)] = 2e38
    found, exact = (function(lags, 1.0, rate, inner, large, last_bias) for function in (encode, encode_reference))
    seen = exact.isfinite()  # float32 holds them, before their decay too
    assert (exact[seen] > 1e37).any()
    torch.testing.assert_close(found[seen], exact[seen], rtol=1e-4, atol=1e-4)
    inner[-1] = math.nan
    assert encode(lags, 1.0, rate, inner, last, last_bias).isnan().all()


def test_gradients_of_what_is_no_number_are_none():
    lags, (rate, inner, last, last_bias) = drawn(20, 16, 2, 5)
    with torch.no_grad():
        inner[-1] = math.nan
    y = encode(lags, 1.0, rate, inner, last, last_bias)
    assert all(part.isnan().all() for part in torch.autograd.grad(y.sum(), (inner, last)))


@pytest.fixture
def memory_is_not_numbers():
    """What `empty` gives is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("memory_is_not_numbers")
@pytest.mark.parametrize(("slowest", "first"), [(1.0, 0), (-0.0, 0), (1.0, -4090), (0.1, -4900), (0.08, -2000)])
def test_where_all_decays_are_zero_so_are_the_coefficients(slowest, first):
    """4,100 lags from `first` on, of which some have decays above zero, or, where one is not below 1, all."""
    lags, parameters = Lags(4100, first), drawn(1, 8, 1, 3)[1]
    rate = torch.tensor([3.0, slowest, 7.0])
    expect_zeros_where_decays_are(slowest, lags, [rate, *parameters[1:]], torch.randn(4100, 3))


@pytest.mark.usefixtures("memory_is_not_numbers")
@pytest.mark.parametrize(
    ("slowest", "first", "count", "width"),
    [
        *((0.8, -2000, 4101, 64), (1.0, -2040, 4096, 32), (1.0, 0, 4099, 8)),
        *((0.8124, 0, 4100, 8), (0.8124, -1535, 4100, 8)),  # 128 lags and next to nothing
    ],
)
def test_zeros_of_every_shape(slowest, first, count, width):
    """Of the channels, one has slow decays, which is not among the first 16."""
    parameters = drawn(1, width, 1, 35)[1]
    rate = torch.full((35,), 3.0)
    rate[20] = slowest
    weight = torch.rand(count, 35)  # positive, so that gradients by rates are no differences of large numbers
    expect_zeros_where_decays_are(slowest, Lags(count, first), [rate, *parameters[1:]], weight)


def expect_zeros_where_decays_are(slowest, lags, parameters, weight):
    results = []
    for function in (encode, encode_reference):
        leaves = [part.detach().requires_grad_() for part in parameters]
        y = function(lags, 1.0, *leaves)
        results.append((y, *torch.autograd.grad((y * weight).sum(), leaves)))
    found, exact = results[0][0], results[1][0]
    assert (0 < (exact != 0).any(1).sum() < lags.count) == (slowest > 0)
    assert (found[exact.abs() > 1e-37] != 0).all()  # below, a GPU may have zeros
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.parametrize("frozen", [None, 0, 1, 3])
def test_second_derivatives_are_the_references(frozen: int | None):
    lags, parameters = drawn(20, 16, 2, 5)
    leaves, seconds = [part for place, part in enumerate(parameters) if place != frozen], []
    if frozen is not None:
        parameters[frozen].requires_grad_(False)
    for function in (encode, encode_reference):
        first = torch.autograd.grad(function(lags, 1.0, *parameters).square().sum(), leaves, create_graph=True)
        seconds.append(torch.autograd.grad(sum(part.square().sum() for part in first), leaves))
    for one, other in zip(*seconds, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("decay", [None, LearnedDecay(5, 0.9)])
@pytest.mark.parametrize("inputs", ["integer", "normalised"])
def test_the_module_means_the_same_by_it(inputs: str, decay: LearnedDecay | None):
    torch.manual_seed(0)
    module = RelativePositionEncoder(5, width=24, layers=3, inputs=inputs)
    lags = Lags(81, -40)
    assert module.fused
    torch.testing.assert_close(module._fused(lags, 41, decay), module(lags, 41, decay), rtol=1e-4, atol=1e-5)


def test_a_module_of_bfloat16_means_its_float32_numbers():
    torch.manual_seed(0)
    module, lags = RelativePositionEncoder(5, width=24, layers=3).bfloat16(), Lags(81, -40)
    found, exact = module._fused(lags, 41, None), module.float()._fused(lags, 41, None)
    assert torch.equal(found, exact)


def test_compiled_it_takes_every_length():
    torch.manual_seed(0)
    parameters = [torch.randn(5, 16), torch.randn(5), torch.randn(16, 16), *torch.randn(3, 16)]
    parameters = [part.requires_grad_() for part in parameters]

    def loss(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return function(Lags(len(x)), 1.0, 0.1 * torch.ones(5), *parameters).square().sum() + x.sum()

    compiled_loss = torch.compile(loss, backend="aot_eager", dynamic=True, fullgraph=True)
    for length in (7, 33, 4100):
        found = torch.autograd.grad(compiled_loss(operations.encode, torch.zeros(length)), parameters)
        exact = torch.autograd.grad(loss(operations.encode_reference, torch.zeros(length)), parameters)
        for one, other in zip(found, exact, strict=True):
            assert (one - other).norm() <= 1e-5 * other.norm()


def test_no_lags_have_no_coefficients():
    parameters = drawn(3, 16, 2, 5)[1]
    coefficients = encode(Lags(0), 1.0, *parameters)
    assert coefficients.shape == (0, 5)
    coefficients.sum().backward()
    assert not any(part.grad.any() for part in parameters)


def test_kernels_take_numbers_of_32_bits():
    assert [part.value for part in values([2**31 - 1, -(2**31)])] == [2**31 - 1, -(2**31)]
    with pytest.raises(ValueError, match="32 bits, and 2,147,483,648 has more"):
        values([2**31])


def test_operations_are_counted_once():
    lags, parameters = drawn(20, 16, 2, 5)
    with FlopCounterMode(display=False) as counter:
        encode(lags, 1.0, *parameters).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 20 * 16 * (2 * 16 + 5)  # forward and two gradients


@pytest.mark.parametrize(
    ("count", "width", "architecture"),
    [(1, 3, "sm_80"), (1, 64, "sm_120"), (4096, 100, "sm_89"), (5000, 64, "sm_90"), (5000, 128, "sm_80")],
)
def test_kernels_are_compiled_for_every_gpu(count: int, width: int, architecture: str):
    """Which may be absent; what they need on chip, all of them have."""
    for name, form in encoder.forms(count, width, 6, True).items():
        assert compiled(name, form.macros(name), architecture).code
        assert form.block(name)[1] <= 48 * 1024
