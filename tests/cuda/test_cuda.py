"""What needs a GPU: the same laws of agreement on CUDA, xformers, autocast, compile and deterministic resuming."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from experiments import checkpoint
from experiments.assemble import resolve
from experiments.config import Run, load, plain
from experiments.files import write_text
from experiments.train import Trainer
from mixers import build, card, names
from mixers.ops.attention import attention, attention_backend, xformers_works
from mixers.ops.gate import halves_in_one_pass, one_pass, silu_gate, silu_gate_halves
from mixers.ops.kernels.encoder import forms
from mixers.ops.kernels.program import kernel
from mixers.ops.toeplitz import prepare, toeplitz_matmul
from mixers.toeplitz.rpe import RelativePositionEncoder
from tasks.byte_model import ByteModel

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.mixers.rows import EVERY, REGISTRY

SPLITS = {name: [b"the quick brown fox jumps over the lazy dog. " * 300] for name in ("train", "validation", "test")}
TASK = ByteModel(SPLITS, length=64, validation_bytes=1000, test_bytes=1000, data_note="")
FORMS = [
    (name, form)
    for name in EVERY
    for form in ("causal", "bidirectional")
    if form in card(name, registry=REGISTRY).claims
]


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    actual, expected = actual.double().cpu(), expected.double().cpu()
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(0.1)


def made(name: str, dim: int, causal: bool):
    """The row for up to 512 tokens."""
    return build(name, dim, causal=causal, length=512, grid=(16, 32), registry=REGISTRY)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 7, 512, 1009])
def test_the_toeplitz_product_is_the_dense_one(length: int, dtype: torch.dtype, causal: bool):
    """With its gradients, from both storages, and by prepared coefficients."""
    coefficients = torch.randn(length if causal else 2 * length - 1, 3, device="cuda", dtype=dtype, requires_grad=True)
    x = torch.randn(2, length, 3, device="cuda", dtype=dtype, requires_grad=True)
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}[dtype]
    results = []
    channel_first = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    backends = ["fft", *(["tiles"] if dtype != torch.float64 else []), *(["monarch"] if dtype.itemsize == 2 else [])]
    for backend, view in (("dense", x), *((name, view) for name in backends for view in (x, channel_first))):
        y = toeplitz_matmul(coefficients, view, causal=causal, backend=backend)
        results.append((y, *torch.autograd.grad(y.square().sum(), (coefficients, x))))
    for fast in results[1:]:
        for actual, expected in zip(fast, results[0], strict=True):
            near(actual, expected, tolerance)
    prepared = prepare(coefficients.detach(), length, dtype)
    near(toeplitz_matmul(prepared, x, causal=causal), results[0][0], tolerance)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("backend", ["tiles", "monarch"])
@pytest.mark.parametrize(
    ("batch", "length", "dim"), [(1, 1, 3), (3, 700, 5), (64, 512, 8), (1, 5000, 2), (7, 2049, 3), (4, 8192, 3)]
)
def test_half_precision_rounds_as_its_inputs_do(batch: int, length: int, dim: int, backend: str, causal: bool):
    """Relative errors to float64, in the whole: at most 4e-3 in bfloat16, 5e-4 in float16 by tiles, and 6e-4 by
    transforms, gradients too."""
    torch.manual_seed(0)
    coefficients = torch.randn(length if causal else 2 * length - 1, dim, device="cuda", requires_grad=True)
    x, weight = torch.randn(2, batch, length, dim, device="cuda")
    for dtype, tolerance in ((torch.bfloat16, 4e-3), (torch.float16, 6e-4 if backend == "monarch" else 5e-4)):
        leaf, exact = (x.to(dtype).to(wide).requires_grad_() for wide in (dtype, torch.float64))
        y = toeplitz_matmul(coefficients, leaf, causal=causal, backend=backend)
        expected = toeplitz_matmul(coefficients.double(), exact, causal=causal, backend="fft")
        results = (y, *torch.autograd.grad(y, (coefficients, leaf), weight.to(dtype)))
        wanted = (expected, *torch.autograd.grad(expected, (coefficients, exact), weight.to(dtype).double()))
        for actual, right in zip(results, wanted, strict=True):
            assert (actual.double() - right).norm() <= tolerance * right.norm()


@pytest.mark.parametrize(("backend", "length"), [("tiles", 300), ("monarch", 3000)])
def test_kernels_are_deterministic_and_captured_by_graphs(backend: str, length: int):
    torch.manual_seed(0)
    mixer, x = build("gtu", 64, causal=True).cuda().eval(), torch.randn(4, length, 64, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        assert mixer.backend_for(x.bfloat16()) == backend
        expected = mixer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = mixer(x)
        graph.replay()
    assert torch.equal(y, expected)


@pytest.mark.parametrize("length", [300, 3000])
def test_the_unit_is_compiled_whole(length: int):
    """Kernels and all, with gradients."""
    torch.manual_seed(0)
    mixer, x = build("gtu", 64, causal=True).cuda(), torch.randn(2, length, 64, device="cuda", requires_grad=True)
    results = []
    for module in (mixer, torch.compile(mixer, fullgraph=True, dynamic=False)):
        with torch.autocast("cuda", torch.bfloat16):
            y = module(x)
        results.append((y, *torch.autograd.grad(y.float().square().sum(), (x, *mixer.parameters()))))
    for one, other in zip(*results, strict=True):
        near(one, other, 3e-2)


def away_from_kinks(rpe: RelativePositionEncoder, lags: torch.Tensor) -> torch.Tensor:
    """Of which lags no number that ReLU is given is next to zero: there, rounding decides what gradients are."""
    first, *others = rpe.linears
    hidden, away = first(lags[:, None]), torch.ones(len(lags), dtype=torch.bool)
    for linear in others:
        hidden = rpe.norm(hidden)
        away &= (hidden.abs() > 1e-5).all(1)
        hidden = linear(rpe.activation(hidden))
    return away


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(
    ("length", "width"), [(1, 64), (77, 128), (2048, 64), (3000, 40), (9000, 64), (9000, 100), (9000, 128)]
)
def test_coefficients_by_kernels_are_those_of_the_cpu(length: int, width: int, learned: bool):
    """With the gradients of every parameter, relative errors in the whole."""
    torch.manual_seed(0)
    mixer = build("tno", 300, causal=False, learn_decay=learned, decay=0.9, rpe_width=width)
    weight, results = torch.randn(2 * length - 1, 300), []
    rpe = copy.deepcopy(mixer.operator.coefficients.rpe).double()
    with torch.no_grad():
        away = away_from_kinks(rpe, torch.arange(1 - length, length).double())
    assert away.float().mean() > 0.9
    for device in ("cpu", "cuda"):
        module = copy.deepcopy(mixer).to(device)
        coefficients = module.toeplitz(length)
        gradients = torch.autograd.grad(coefficients, list(module.parameters()), (weight * away[:, None]).to(device))
        results.append([part.detach().double().cpu() for part in (coefficients, *gradients)])
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


def test_a_kernel_that_cannot_start_says_so():
    numbers = torch.zeros(64, device="cuda")
    channels = kernel("channels", forms(1, 32, 1, True)["channels"], numbers.device)
    with pytest.raises(RuntimeError, match="channels did not start: CUDA_ERROR_INVALID_VALUE"):
        channels(0, *[numbers] * 6, 1, 32, 1, 0.0, 1.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 6e-3)])
def test_the_gate_is_its_definition_with_its_gradients(dtype: torch.dtype, tolerance: float):
    torch.manual_seed(0)
    u, x, weight = (3 * torch.randn(3, 7, 2, 1000, device="cuda")).to(dtype)
    u, x = (part.permute(1, 2, 0).requires_grad_() for part in (u, x))
    y, exact = one_pass(u, x), silu_gate(u.double(), x.double())
    found = (y, *torch.autograd.grad(y, (u, x), weight.permute(1, 2, 0)))
    wanted = (exact, *torch.autograd.grad(exact, (u, x), weight.permute(1, 2, 0).double()))
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other.double()).norm() <= tolerance * other.double().norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 6e-3)])
@pytest.mark.parametrize("width", [5, 512, 3000])
def test_the_gate_of_halves_is_its_definition_with_its_gradient(dtype: torch.dtype, tolerance: float, width: int):
    torch.manual_seed(0)
    halves = (3 * torch.randn(3, 70, 2 * width, device="cuda")).to(dtype).requires_grad_()
    exact, weight = halves.detach().double().requires_grad_(), torch.randn(3, 70, width, device="cuda").to(dtype)
    y, expected = halves_in_one_pass(halves), silu_gate_halves(exact)
    found = (y, *torch.autograd.grad(y, halves, weight))
    wanted = (expected, *torch.autograd.grad(expected, exact, weight.double()))
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize(("name", "form"), FORMS)
@pytest.mark.parametrize("length", [1, 63, 300])
def test_cuda_agrees_with_the_cpu(name: str, form: str, length: int):
    torch.manual_seed(length)
    mixer, x = made(name, 32, form == "causal").eval(), torch.randn(2, length, 32)
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)]])
    on_cuda = copy.deepcopy(mixer).cuda()
    near(on_cuda(x.cuda()), mixer(x), 2e-4)
    near(on_cuda(x.cuda(), mask.cuda())[mask.cuda()], mixer(x, mask)[mask], 2e-4)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_autocast_is_near_float32_with_its_gradients(name: str, form: str):
    torch.manual_seed(0)
    mixer, x = (
        made(name, 64, form == "causal").cuda(),
        torch.randn(2, 500, 64, device="cuda", requires_grad=True),
    )
    y = mixer(x)
    with torch.autocast("cuda", torch.bfloat16):
        z = mixer(x)
    near(z, y, 5e-2)
    z.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in mixer.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", names("step"))
def test_steps_are_forward_on_cuda(name: str):
    mixer, x = made(name, 32, True).cuda().eval(), torch.randn(2, 20, 32, device="cuda")
    with torch.no_grad():
        y = mixer(x)
        _, state = mixer.prefill(x[:, :9])
        for place in range(9, 20):
            step, state = mixer.step(x[:, place], state)
            near(step, y[:, place], 2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 100, 1024])
def test_xformers_is_dense_with_its_gradients(dtype: torch.dtype, causal: bool, length: int):
    assert xformers_works()
    q, k, v = (torch.randn(2, 4, length, 16, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    assert attention_backend("auto", q, plain=True) == "xformers"
    results = []
    for backend in ("xformers", "dense"):
        y = attention(q, k, v, causal=causal, backend=backend)
        results.append((y, *torch.autograd.grad(y.float().square().sum(), (q, k, v))))
    for fast, dense in zip(*results, strict=True):
        near(fast, dense, 3e-2)


def test_auto_takes_sdpa_where_xformers_does_not_apply():
    half, single = (torch.zeros(1, device="cuda", dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    assert attention_backend("auto", half, plain=False) == "sdpa"
    assert attention_backend("auto", single, plain=True) == "sdpa"
    with pytest.raises(ValueError, match="the xformers backend needs CUDA"):
        attention_backend("xformers", single, plain=True)


def trainer(folder, *arguments: str) -> Trainer:
    run = load(Run, ["backbone.dim=32", "train.tokens=5120", "train.validations=2", *arguments])
    write_text(folder / "config.yaml", str(plain(run)))
    return Trainer(resolve(run, causal=True), TASK, folder)


@pytest.mark.parametrize("name", ["gtu", "softmax", "linear_elu", "s4d", "convolution"])
def test_a_deterministic_run_resumes_bit_for_bit(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        settings = (f"mixer={name}", "train.deterministic=true", "backbone.dropout=0.1")
        whole = trainer(tmp_path / "whole", *settings)
        whole.fit(lambda done, total, loss: None)
        cut = trainer(tmp_path / "cut", *settings)
        for _ in range(7):
            cut.train_step()
        cut._save()
        again = trainer(tmp_path / "cut", *settings)
        assert again.step == 7
        again.fit(lambda done, total, loss: None)
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert checkpoint.checkpoint_file(tmp_path / "cut").exists()


@pytest.mark.parametrize("name", ["gtu", "softmax", "linear_elu", "s4d", "convolution"])
def test_a_run_compiles_and_counts(name: str, tmp_path):
    compiled = trainer(tmp_path / "compiled", f"mixer={name}", "train.compile=true")
    compiled.fit(lambda done, total, loss: None)
    result = compiled.result()
    assert result["bits_per_byte"] < 8
    assert result["state_bytes"] > 0
    assert result["peak_memory_bytes"] > 0
    assert set(result["backends"].values()) == {"gtu": {"tiles"}, "softmax": {"xformers"}}.get(name, set())
