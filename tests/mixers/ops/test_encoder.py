"""The fused relative position encoder is its definition, with first and second derivatives (by the emulator beside this
file, and triton's interpreter)."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from triton.runtime.interpreter import interpreter_builder

from mixers.ops.encoder import Lags, encode, encode_reference
from mixers.ops.kernels import encoder
from mixers.ops.kernels.program import compiled
from mixers.toeplitz.decay import LearnedDecay
from mixers.toeplitz.rpe import RelativePositionEncoder
from tests.mixers.ops.emulator import EmulatedKernel


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoder, "kernel", EmulatedKernel)


@pytest.fixture(autouse=True)
def names_of_precisions(monkeypatch: pytest.MonkeyPatch):
    """The interpreter knows fewer than GPUs do; to it they are all float32."""
    known = interpreter_builder.options.allowed_dot_input_precisions
    options = replace(interpreter_builder.options, allowed_dot_input_precisions=(*known, "bf16x6"))
    monkeypatch.setattr(interpreter_builder, "options", options)


def drawn(count: int, width: int, layers: int, channels: int):
    """Lags, and the rates of decays and parameters, which ask for gradients."""
    torch.manual_seed(count)
    inner = torch.cat([torch.randn(layers * width**2) / width**0.5, torch.randn((layers + 2) * width)])
    parameters = 0.1 * torch.rand(channels), inner, torch.randn(channels, width), torch.randn(channels)
    return Lags(count, -(count // 3), 0.5), [part.requires_grad_() for part in parameters]


SMALL = (
    *((1, 8, 1, 3), (31, 64, 6, 64), (32, 16, 2, 65), (33, 24, 3, 300), (80, 128, 1, 17), (66, 100, 2, 20)),
    (70, 32, 0, 20),
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


def test_no_lags_have_no_coefficients():
    parameters = drawn(3, 16, 2, 5)[1]
    coefficients = encode(Lags(0), 1.0, *parameters)
    assert coefficients.shape == (0, 5)
    coefficients.sum().backward()
    assert not any(part.grad.any() for part in parameters)


def test_operations_are_counted_once():
    lags, parameters = drawn(20, 16, 2, 5)
    with FlopCounterMode(display=False) as counter:
        encode(lags, 1.0, *parameters).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 20 * 16 * (2 * 16 + 5)  # forward and two gradients


COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mixers.ops.kernels import encoder

def shared(kernel, target, warps, stages, **constants):
    kinds = dict.fromkeys(("divisor", "first", "step"), "fp32")
    kinds |= dict.fromkeys(("count", "width", "layers", "channels"), "i32")
    names = kernel.arg_names
    types = {name: "constexpr" if name in constants else kinds.get(name, "*fp32") for name in names}
    given = {(names.index(name),): value for name, value in constants.items()}
    others = [place for place, name in enumerate(names) if types[name] in ("*fp32", "i32")]
    aligned = {(place,): [["tt.divisibility", 16]] for place in others}
    source = ASTSource(kernel, types, constexprs=given, attrs=aligned)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages}).metadata.shared

architecture, count, padded = json.loads(sys.argv[1])
target = GPUTarget("cuda", architecture, 32)
lags, channels = encoder.backward_tile(count, padded)
summed = {"PADDED": padded, "LAGS": encoder.SUMMED, "FAR": True}
print(max(
    shared(encoder._gradients, target, 4, 1, PADDED=padded, LAGS=lags, CHANNELS=channels, FAR=True),
    shared(encoder._inner_gradients, target, 4, 1, **summed),
    shared(encoder._last_gradients, target, 4, 1, **summed, CHANNELS=encoder.SUMMED),
))
"""


@pytest.mark.parametrize(
    ("architecture", "count", "padded", "limit"),
    [(89, 40_000, 128, 99), (80, 1000, 64, 99), (90, 1000, 64, 227), (90, 40_000, 64, 227), (90, 40_000, 128, 227)],
)
def test_programs_have_the_memory_that_they_need(architecture, count, padded, limit):
    """Those for gradients, compiled by triton for GPUs that may be absent; `limit` in KB."""
    arguments = [sys.executable, "-c", COMPILE, json.dumps([architecture, count, padded])]
    done = subprocess.run(arguments, env={**os.environ, "TRITON_INTERPRET": "0"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 1024 < int(done.stdout) <= 1024 * limit


@pytest.mark.parametrize(
    ("count", "width", "architecture"),
    [(1, 3, "sm_80"), (1, 64, "sm_120"), (4096, 100, "sm_89"), (5000, 64, "sm_90"), (5000, 128, "sm_80")],
)
def test_kernels_are_compiled_for_every_gpu(count: int, width: int, architecture: str):
    """Which may be absent; what they need on chip, all of them have."""
    for name, form in zip(("hidden", "channels"), encoder.forms(count, width, True), strict=True):
        assert compiled(name, form.macros(name), architecture).code
        assert form.block(name)[1] <= 48 * 1024
