"""The laws that every mixer keeps in every form that it has."""

import copy
import math
import pickle
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mixers.contract import Mixer
from mixers.laws.law import NEAR, BrokenLaw, expect, expect_finite, expect_near, largest
from mixers.laws.subject import DRAWS, LONGEST, Trial

FAR = 300
"""A length beyond the usual chunks and the default length of training, at which derivatives are cheap."""

PRIMES = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def shape(trial: Trial) -> None:
    """Shape and dtype are kept; as it is built, a mixer is in torch's default dtype."""
    for name, tensor in trial.fresh().state_dict().items():
        narrow = not tensor.is_floating_point() or tensor.dtype == torch.get_default_dtype()
        expect(narrow, f"{name} is built in {tensor.dtype}")
    for dtype in NEAR:
        x = trial.x(dtype=dtype)
        y = trial.mixer(dtype)(x)
        expect(y.shape == x.shape, f"shape {tuple(y.shape)} from {tuple(x.shape)}")
        expect(y.dtype == dtype, f"dtype {y.dtype} from {dtype}")


def precision(trial: Trial) -> None:
    """float32, float16 and bfloat16 agree with float64 on the same parameters and inputs; so do float32's gradients."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        mixer, x = trial.mixer(dtype), trial.x(dtype=dtype).requires_grad_()
        wide = x.detach().double().requires_grad_()
        y, exact = mixer(x), copy.deepcopy(mixer).double()(wide)
        expect_near(y.double(), exact, f"{dtype} against float64", tolerance=NEAR[dtype])
        if dtype == torch.float32:
            weights = trial.x(salt=1)
            (gradient,) = torch.autograd.grad((y * weights).sum(), x, materialize_grads=True)
            (expected,) = torch.autograd.grad((exact * weights).sum(), wide, materialize_grads=True)
            expect_near(gradient.double(), expected, "the gradient in float32 against float64", tolerance=NEAR[dtype])


def batch(trial: Trial) -> None:
    """Rows of a batch do not meet, in training mode either."""
    x = torch.cat([trial.x(), trial.x(salt=1)])
    for training in (False, True):
        mixer = trial.mixer().train(training)
        y = trial.run(mixer, x)
        for kept in (0, len(x) - 1):
            other = 10 * torch.cat([trial.x(salt=2), trial.x(salt=3)])
            other[kept] = x[kept]
            z = trial.run(mixer, other)
            expect_near(z[kept], y[kept], f"row {kept} of {len(x)} beside other rows (training={training})")


def pads(trial: Trial) -> None:
    """The content of pads, 1e4 or NaN, never reaches real tokens; input and mask are left as they were."""
    mixer, (length, cut) = trial.mixer(), trial.split
    x = trial.x(length)
    mask = (torch.arange(length) < cut).repeat(len(x), 1)
    before, mask_before = x.clone(), mask.clone()
    with torch.no_grad():
        y = mixer(x, mask)[:, :cut]
    expect(torch.equal(x, before) and torch.equal(mask, mask_before), "the input or the mask was written to")
    expect_finite(y, "outputs at real tokens")
    expect_near(mixer(x, torch.ones_like(mask)), mixer(x), "a mask that is True everywhere against none")
    for pad in (1e4, torch.nan):
        z = mixer(torch.cat([x[:, :cut], torch.full_like(x[:, cut:], pad)], dim=1), mask)[:, :cut]
        expect_near(z, y, f"real tokens before pads of {pad}")


def finite(trial: Trial) -> None:
    """Outputs and gradients are finite at input scales 0, 1 and 1000."""
    for scale in (0, 1, 1000):
        _expect_finite_run(trial.mixer(torch.float32), scale * trial.x(dtype=torch.float32), f"input scale {scale}")


def lengths(trial: Trial) -> None:
    """N = 1 and primes give finite outputs of the right shape."""
    mixer = trial.mixer()
    for length in (1, *PRIMES[trial.example.seed % 4 :: 4]):  # a quarter of them an example, N = 1 always
        _expect_finite_run(mixer, trial.x(length), f"N = {length}")


def edges(trial: Trial) -> None:
    """The lengths around every chunk size give finite outputs of the right shape."""
    around = {size + offset for size in (trial.example.chunk, *trial.subject.sizes) for offset in (-1, 0, 1)}
    mixer = trial.mixer()
    for length in sorted(edge for edge in around if 1 <= edge <= LONGEST)[trial.example.seed % 2 :: 2]:
        _expect_finite_run(mixer, trial.x(length), f"N = {length}")


def reach(trial: Trial) -> None:
    """Every trainable tensor gets a gradient above 1e-8 of the largest one."""
    unreached: dict[str, float] = {}
    for draw in range(DRAWS):
        sizes = _gradient_sizes(trial, trial.mixer(seed=draw))
        small = {name: size for name, size in sizes.items() if size <= 1e-8 * max(sizes.values())}
        unreached = {name: size for name, size in small.items() if not draw or name in unreached}
        if not unreached:
            return
    name, size = next(iter(unreached.items()))
    raise BrokenLaw(f"the parameter {name} gets no gradient ({size:.1e})")


def _gradient_sizes(trial: Trial, mixer: Mixer) -> dict[str, float]:
    """The largest gradient of each trainable tensor over three inputs."""
    sizes = {name: 0.0 for name, tensor in mixer.named_parameters() if tensor.requires_grad}
    for salt in range(3 if sizes else 0):
        mixer.zero_grad()
        y = trial.run(mixer.train(trial.example.training), trial.x(16, salt=salt))
        expect(y.requires_grad, "no parameter gets a gradient")
        (y * trial.x(16, salt=10 + salt)).sum().backward()
        for name, tensor in mixer.named_parameters():
            if tensor.requires_grad and tensor.grad is not None:
                sizes[name] = max(sizes[name], largest(tensor.grad))
    return sizes


def determinism(trial: Trial) -> None:
    """The same seed builds the same mixer; eval mode draws and changes nothing, with gradients on and off."""
    first, second, x = trial.mixer(), trial.mixer(), trial.x()
    saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    generator = torch.get_rng_state()
    y = first(x)
    expect(torch.equal(torch.get_rng_state(), generator), "forward draws from the global generator in eval mode")
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            expect_near(first(x).clone(), y, "outputs with gradients off")
    after = first.state_dict()
    kept = after.keys() == saved.keys() and all(torch.equal(after[name], saved[name]) for name in saved)
    expect(kept, "forward in eval mode changes the state_dict")
    torch.rand(7)  # moves the global generator: an output that depends on it shows
    expect(torch.equal(first(x), y), "two runs of one mixer differ")
    expect(torch.equal(second(x), y), "two mixers built from one seed differ")


def process(trial: Trial) -> None:
    """Building and running a mixer draws from torch's generator, but resets no generator and turns no switch."""
    for draw in (random.random, np.random.random):
        draw()  # hypothesis seeds both with 0: a mixer that does so too shows after a draw
    states = []
    for gradients in (True, False):
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients):
            torch.default_generator.manual_seed(trial.example.seed + gradients)
            switches = _switches()
            mixer = trial.construct().train()
            mixer(trial.x(dtype=torch.get_default_dtype()))
            states.append(torch.get_rng_state())
            expect(_switches() == switches, "a generator of Python or numpy, or a switch of torch, is not as it was")
            expect(all(module.training for module in mixer.modules()), "a module left training mode")
    expect(not torch.equal(*states), "the global generator of torch is reset")


def _switches() -> tuple:
    """What belongs to the whole process."""
    generators = pickle.dumps((random.getstate(), np.random.get_state()))  # bytes: arrays cannot be compared as a whole
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    numbers = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_float32_matmul_precision()
    return generators, threads, deterministic, numbers


@torch.no_grad()
def round_trip(trial: Trial) -> None:
    """state_dict and deepcopy carry all that forward needs, as real tensors."""
    mixer, x = trial.mixer(), trial.x()
    trial.run(mixer.train(), x)  # what training changes is carried too
    y = mixer.eval()(x)
    saved = mixer.state_dict()
    for name, tensor in trial.fresh().state_dict().items():  # before a change of dtype makes it real
        expect(not tensor.is_complex(), f"{name} is saved as a complex tensor")
    loaded = trial.mixer(seed=1)
    loaded(x)  # what a mixer remembers of its parameters must not outlive them
    loaded.load_state_dict(saved)
    expect(torch.equal(loaded(x), y), "a mixer that loaded the state_dict gives other outputs")
    expect(torch.equal(copy.deepcopy(mixer)(x), y), "a deepcopy gives other outputs")


def strides(trial: Trial) -> None:
    """An input that is not contiguous gives what its contiguous copy gives, and is left as it was."""
    mixer, x = trial.mixer(), 3 * trial.x()
    before = x.clone()
    for training in (True, False):
        y = trial.run(mixer.train(training), x)
        expect(torch.equal(x, before), f"the input was written to (training={training})")
    channel_first = x.transpose(1, 2).contiguous().transpose(1, 2)
    spread = torch.stack([x, trial.x(salt=1)], dim=2)[:, :, 0]
    for name, view in (("channel-first", channel_first), ("strided", spread)):
        expect_near(mixer(view), y, f"{name} storage")
        expect(torch.equal(view, x), f"{name} storage: the input was written to")


def autocast(trial: Trial) -> None:
    """Under bfloat16 autocast outputs are finite and near those of float32."""
    mixer, x = trial.mixer(torch.float32), trial.x(dtype=torch.float32)
    before = x.clone()
    with torch.autocast("cpu", torch.bfloat16):
        y = mixer(x).float()
    expect(torch.equal(x, before), "the input was written to")
    expect_finite(y, "outputs under autocast")
    expect_near(y, mixer(x), "autocast against float32", tolerance=NEAR[torch.bfloat16])


def gradient(trial: Trial) -> None:
    """The derivative along a random direction in inputs and parameters is that of finite differences.

    This is what gradcheck's fast mode does; gradcheck itself would build whole Jacobians to say how it failed. A step
    may cross a kink, so a mixer that disagrees is followed by others: a wrong derivative is wrong in all of them.
    """
    shapes = [(min(trial.example.length, 5), trial.example.batch)]
    shapes += [(FAR, 1)] if trial.example.seed % 4 == 0 else []  # a quarter of the examples, the simplest one always
    for length, batch in shapes:
        x, exact, difference = trial.x(length)[:batch], 0.0, 0.0
        for attempt in range(5):
            exact, difference, size = _derivatives(trial, trial.mixer(length=length, seed=attempt), x)
            if abs(exact - difference) <= 1e-5 * max(size, abs(exact)):
                break
        else:
            ways = f"{exact:.6e} by autograd and {difference:.6e} by finite differences"
            raise BrokenLaw(f"a derivative is {ways}, N = {length}")


def _derivatives(trial: Trial, mixer: Mixer, x: Tensor) -> tuple[float, float, float]:
    """One derivative by autograd, the same by finite differences, and the largest entry of the gradient.

    The step is small, since thousands of kinks (of the ReLU in an RPE, say) must not lie in its way.
    """
    weights, epsilon = trial.x(x.shape[1], salt=1)[: len(x)], 1e-9
    inputs = {"x": x, **{name: tensor.detach() for name, tensor in mixer.named_parameters() if tensor.requires_grad}}
    inputs = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}

    def score(values: dict[str, Tensor]) -> Tensor:
        return (torch.func.functional_call(mixer, values, (values.pop("x"),)) * weights).sum()

    gradients = torch.autograd.grad(score({**inputs}), list(inputs.values()), materialize_grads=True)
    direction = [trial.draw(*t.shape, salt=2 + index) for index, t in enumerate(inputs.values())]
    with torch.no_grad():
        ahead, behind = (
            score({name: t + sign * epsilon * d for (name, t), d in zip(inputs.items(), direction, strict=True)})
            for sign in (1, -1)
        )
    exact = sum((part * step).sum().item() for part, step in zip(gradients, direction, strict=True))
    return exact, (ahead - behind).item() / (2 * epsilon), max(map(largest, gradients))


def refusals(trial: Trial) -> None:
    """What a mixer does not claim, it refuses: N beyond the length that it was built for, and decoding."""
    claims = trial.subject.claims
    if claims is None:
        return
    if "any_length" not in claims and trial.subject.bounded:
        longest = trial.longest()
        what = f"N = {longest + 1} beyond length = {longest}"
        _expect_refusal(lambda: trial.mixer()(trial.x(longest + 1)), ValueError, what)
    if "step" not in claims:
        _expect_refusal(lambda: trial.mixer().init_state(1), NotImplementedError, "init_state without a claim of step")
    elif not trial.causal:
        _expect_refusal(lambda: trial.mixer().init_state(1), ValueError, "init_state of the bidirectional form")


def rules(trial: Trial) -> None:
    """optimizer_rules gives parameters an lr and a weight_decay, and redraw draws from its generator alone."""
    mixer, other, x = trial.mixer(), trial.mixer(), trial.x()
    parameters = dict(mixer.named_parameters())
    for name, rule in mixer.optimizer_rules().items():
        expect(name in parameters, f"optimizer_rules names {name!r}, which is no parameter")
        expect(set(rule) <= {"lr", "weight_decay"}, f"optimizer_rules gives {name} {', '.join(rule)}")
        legal = all(type(value) in (int, float) and 0 <= value < math.inf for value in rule.values())
        expect(legal, f"optimizer_rules gives {name} {rule}")
    for drawn in (mixer, other):
        drawn.redraw(torch.Generator().manual_seed(trial.example.seed))
        torch.rand(7)  # moves the global generator: a draw from it shows
    y = mixer(x)
    expect_finite(y, "outputs after redraw")
    expect(torch.equal(other(x), y), "two redraws from one seed differ")
    loaded = trial.mixer(seed=1)
    loaded.load_state_dict(mixer.state_dict())
    expect(torch.equal(loaded(x), y), "state_dict does not carry what redraw drew")


def compiled(trial: Trial) -> None:
    """torch.compile gives the outputs and gradients that eager execution gives."""
    torch.compiler.reset()
    mixer, x = trial.mixer(torch.float32), trial.x(16, dtype=torch.float32).requires_grad_()
    weights = trial.x(16, salt=1, dtype=torch.float32)
    compiled_mixer = torch.compile(mixer, dynamic=False)  # one shape: compiling takes seconds
    (y, gradient), (expected, exact) = (
        (out, torch.autograd.grad((out * weights).sum(), x)[0]) for out in (compiled_mixer(x), mixer(x))
    )
    expect_near(y, expected, "compiled against eager")
    expect_near(gradient, exact, "the gradient, compiled against eager")


def _expect_finite_run(mixer: Mixer, x: Tensor, what: str) -> None:
    mixer.zero_grad()
    x = x.requires_grad_()
    y = mixer(x)
    expect(y.shape == x.shape, f"{what}: shape {tuple(y.shape)} from {tuple(x.shape)}")
    expect_finite(y, f"outputs at {what}")
    y.sum().backward()
    for name, tensor in [("x", x), *mixer.named_parameters()]:
        if tensor.grad is not None:
            expect_finite(tensor.grad, f"gradient of {name} at {what}")


def _expect_refusal(attempt: Callable[[], object], kind: type[Exception], what: str) -> None:
    try:
        attempt()
    except kind:
        return
    raise BrokenLaw(f"{what} is not refused by a {kind.__name__}")
