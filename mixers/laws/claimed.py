"""The laws behind the claims of a row."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mixers.contract import Mixer, State
from mixers.laws.law import CAUSAL, BrokenLaw, expect, expect_finite, expect_near, largest
from mixers.laws.subject import DRAWS, LONGEST, Trial

STEPS = 64
"""How many tokens are decoded one by one at the most; longer prefixes are prefilled."""

DOUBLE = (torch.float64, torch.complex128)

FAR = 1100
"""A length beyond what tables and chunks usually hold."""


GRADED = 4
"""How many tokens are decoded with gradients on, where nothing may be kept between steps, so that each takes longer."""


def causal(trial: Trial) -> None:
    """Other draws after the cut leave the outputs before it as they were, and no gradient crosses backwards."""
    length, cut = trial.split
    mixer = trial.mixer().train(trial.example.training)
    with torch.set_grad_enabled(trial.example.training):
        y = _expect_causal_outputs(trial, mixer, length, cut, torch.float64)
        _expect_dependence(trial, mixer, y, length, cut)
    _expect_causal_gradient(trial, mixer, length, cut, torch.float64)


def narrow_causal(trial: Trial) -> None:
    """The outputs before the cut stay as they were in float32, float16 and bfloat16 too."""
    length, cut = trial.split
    mixer = trial.mixer().train(trial.example.training)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        mixer = mixer.to(dtype)
        with torch.set_grad_enabled(trial.example.training):
            _expect_causal_outputs(trial, mixer, length, cut, dtype)


def autocast_causal(trial: Trial) -> None:
    """Under bfloat16 autocast the outputs before the cut stay as they were, and no gradient crosses backwards.

    Rounding may hide what flows to the outputs, but not a gradient that flows back from them.
    """
    length, cut = trial.split
    mixer = trial.mixer(torch.float32).train(trial.example.training)
    with torch.autocast("cpu", torch.bfloat16):
        _expect_causal_outputs(trial, mixer, length, cut, torch.float32)
        _expect_causal_gradient(trial, mixer, length, cut, torch.float32)


def _expect_causal_outputs(trial: Trial, mixer: Mixer, length: int, cut: int, dtype: torch.dtype) -> Tensor:
    """Draws of the same scale after the cut, and of 100 times that in wide numbers; returns the outputs."""
    rounded = torch.bfloat16 if torch.is_autocast_enabled("cpu") else dtype
    x = trial.x(length, dtype=dtype)
    y = trial.run(mixer, x)
    for scale in (1, 100) if rounded in (torch.float64, torch.float32) else (1,):
        other = torch.cat([x[:, :cut], scale * trial.x(length, salt=1, dtype=dtype)[:, cut:]], dim=1)
        z = trial.run(mixer, other)
        gap, size = largest(y[:, :cut] - z[:, :cut]), max(largest(y), largest(z))
        message = f"outputs before token {cut} moved by {gap:.2e} of {size:.2e} when later tokens changed"
        expect(gap <= CAUSAL[rounded] * size, f"{message} ({_numbers(dtype)}, scale {scale})")
    return y


def _expect_causal_gradient(trial: Trial, mixer: Mixer, length: int, cut: int, dtype: torch.dtype) -> None:
    backward, whole = _cross_gradients(trial, mixer, length, cut, dtype)
    message = f"the gradient of outputs before token {cut} by later tokens is {backward:.2e} of {whole:.2e}"
    expect(backward <= CAUSAL[dtype] * whole, f"{message} ({_numbers(dtype)})")


def _numbers(dtype: torch.dtype) -> str:
    return "autocast" if torch.is_autocast_enabled("cpu") else str(dtype)


def _expect_dependence(trial: Trial, mixer: Mixer, y: Tensor, length: int, cut: int) -> None:
    """Other draws before the cut move the outputs after it, by at least 1e-3 of what other draws everywhere do.

    A bias of the output may be far above all that depends on the input. Small parameters may hold a layer's mixing far
    below what it adds of the token itself, so a mixer that shows nothing is followed by others, moved farther each.
    """
    x, other = trial.x(length), trial.x(length, salt=2)
    for draw in range(1, DRAWS + 1):
        inputs = torch.cat([other[:, :cut], x[:, cut:]], dim=1), other
        early, everywhere = (trial.run(mixer, tokens) for tokens in inputs)
        if largest((y - early)[:, cut:]) > 1e-3 * largest((y - everywhere)[:, cut:]):
            return
        mixer = trial.mixer(seed=draw, spread=1 + draw).train(trial.example.training)
        y = trial.run(mixer, x)
    raise BrokenLaw(f"outputs after token {cut} do not depend on the tokens before it")


def every_cut(trial: Trial) -> None:
    """Other draws after any token leave the outputs before it as they were.

    One row of a batch for each cut, at 40 of them in a longer sequence: a leak may stand at one place alone.
    """
    length, _ = trial.split
    mixer = trial.mixer()  # in eval mode: dropout would tell the rows apart
    cuts = torch.arange(1, length)[:: -(-length // LONGEST)]
    x, other = trial.x(length)[:1], trial.x(length, salt=1)[:1]
    before = torch.arange(length) < cuts[:, None]
    with torch.no_grad():
        outputs = mixer(torch.cat([x, torch.where(before[..., None], x, other)]))
    y, z = outputs[:1], outputs[1:]
    gaps = (z - y).abs().amax(-1).masked_fill(~before, 0).amax(-1)  # one a cut
    worst = int(gaps.argmax())
    message = (
        f"outputs before token {cuts[worst]} moved by {gaps[worst]:.2e} of {largest(y):.2e} when later tokens changed"
    )
    expect(gaps[worst] <= CAUSAL[torch.float64] * max(largest(y), largest(z)), message)


def prefix(trial: Trial) -> None:
    """The outputs of a prefix are the prefix of the outputs."""
    length, cut = trial.split
    mixer, x = trial.mixer(), trial.x(length)
    expect_near(mixer(x[:, :cut]), mixer(x)[:, :cut], f"f(x[:{cut}]) against f(x)[:{cut}]")


def bidirectional(trial: Trial) -> None:
    """Earlier outputs depend on later inputs.

    Few tokens may all lie on the same side of a mixer's thresholds, and then do not meet; so a mixer that shows nothing
    is followed by others. One that looks back alone shows nothing in any of them.
    """
    length, cut = trial.split
    later = whole = 0.0
    for draw in range(DRAWS):
        later, whole = _cross_gradients(trial, trial.mixer(seed=draw), length, cut)
        if later > 1e-6 * whole:
            return
    raise BrokenLaw(f"outputs before token {cut} do not depend on later tokens ({later:.2e} of {whole:.2e})")


def any_length(trial: Trial) -> None:
    """One set of parameters serves every N, beyond the `length` that it was built with too."""
    mixer = trial.mixer(length=8)
    shapes = {name: tensor.shape for name, tensor in mixer.state_dict().items()}
    for length in (1, trial.example.length, LONGEST + trial.example.length):
        _expect_outputs(mixer, trial.x(length))
    if trial.example.seed % 4 == 0:  # a quarter of the examples, the simplest one always
        with torch.no_grad():
            _expect_outputs(mixer.float(), trial.x(FAR, dtype=torch.float32)[:1])
    after = {name: tensor.shape for name, tensor in mixer.state_dict().items()}
    expect(after == shapes, "parameters changed with N")


def padding(trial: Trial) -> None:
    """With a mask, real tokens get the outputs of the unpadded run, whatever the pads; gradients stay finite."""
    mixer, length = trial.mixer(), max(trial.example.length, 2)
    generator = torch.Generator().manual_seed(trial.example.seed)
    real = torch.randint(0, length + 1, (trial.example.batch,), generator=generator)
    real[-1] = 0  # one row is all pads
    real[0] = max(trial.example.cut, 1)  # at least one row has both tokens and pads
    mask = torch.arange(length) < real[:, None]
    alone = [mixer(row[None, :count]) for row, count in zip(trial.x(length), real.tolist(), strict=True) if count]
    for pad in (1.0, 1e4, torch.nan):
        x = torch.where(mask[..., None], trial.x(length), pad * trial.x(length, salt=1))
        y = mixer(x, mask)
        if pad == pad:
            expect_finite(y, f"outputs, those at pads of {pad} too")  # a NaN there would spread in the residuals
        for row, expected in zip(y[real > 0], alone, strict=True):
            count = expected.shape[1]
            expect_near(row[None, :count], expected, f"{count} tokens before {length - count} pads of {pad}")
    x = trial.x(length).requires_grad_()
    mixer(x, mask)[mask].sum().backward()
    for name, tensor in [("x", x), *mixer.named_parameters()]:
        if tensor.grad is not None:
            expect_finite(tensor.grad, f"gradient of {name} with pads")


def step(trial: Trial) -> None:
    """init_state and then step gives what forward gives, gradients on or off; a state is no wider than float32."""
    mixer = trial.mixer()
    with torch.set_grad_enabled(trial.example.training):
        x, other = trial.x(), trial.x(salt=1)
        y, z = mixer(x), mixer(other)
        states = [mixer.init_state(len(x)), mixer.init_state(len(x))]
    _expect_state(states[0], len(x))
    for place in range(min(x.shape[1], STEPS)):
        with torch.set_grad_enabled(trial.example.training and place < GRADED):
            for index, (inputs, expected) in enumerate(((x, y), (other, z))):
                if index == 0 or place < 4:  # two sequences in turns at first: their states must not meet
                    out, states[index] = mixer.step(inputs[:, place], states[index])
                    expect_near(out, expected[:, place], f"step {place} from init_state against forward")
        _expect_state(states[0], len(x))
    for dtype in (torch.float32, torch.bfloat16):
        _expect_narrow_state(trial, mixer.to(dtype), dtype)


def prefill(trial: Trial) -> None:
    """prefill gives what forward gives, and leaves the state from which step goes on, after any number of tokens."""
    mixer, x = trial.mixer(), trial.x()
    with torch.set_grad_enabled(trial.example.training):
        y = mixer(x)
    for cut, end in ((0, 1), (max(trial.example.cut, x.shape[1] - STEPS), x.shape[1])):
        with torch.set_grad_enabled(trial.example.training):
            start, state = mixer.prefill(x[:, :cut])
        expect_near(start, y[:, :cut], f"prefill of {cut} tokens against forward")
        _expect_state(state, len(x))
        for place in range(cut, end):
            with torch.set_grad_enabled(trial.example.training and place < cut + GRADED):
                out, state = mixer.step(x[:, place], state)
            expect_near(out, y[:, place], f"step {place} after a prefill of {cut} tokens against forward")
    with torch.set_grad_enabled(trial.example.training):
        _expect_own_state(trial, mixer)


def _expect_own_state(trial: Trial, mixer: Mixer) -> None:
    """Inputs are left as they were, and a state lives on when their memory is used anew, as decoding loops do."""
    length, cut = trial.split
    x = trial.x(length)
    y, first, second = mixer(x), x[:, :cut].clone(), x[:, cut].clone()
    _, state = mixer.prefill(first)
    expect(torch.equal(first, x[:, :cut]), "prefill wrote to its input")
    first.fill_(7)
    out, state = mixer.step(second, state)
    expect(torch.equal(second, x[:, cut]), "step wrote to its input")
    expect_near(out, y[:, cut], f"step {cut} after the input of prefill was overwritten")
    if cut + 1 < length:
        second.fill_(7)
        out, _ = mixer.step(x[:, cut + 1], state)
        expect_near(out, y[:, cut + 1], f"step {cut + 1} after the input of step {cut} was overwritten")


def _expect_narrow_state(trial: Trial, mixer: Mixer, dtype: torch.dtype) -> None:
    """The output has the input's dtype, and the state is no wider than float32."""
    x = trial.x(2, dtype=dtype)
    _, prefilled = mixer.prefill(x[:, :1])
    for state in (mixer.init_state(len(x)), prefilled):
        out, after = mixer.step(x[:, 1], state)
        expect(out.dtype == dtype, f"step gives {out.dtype} for {dtype}")
        wide = [leaf.dtype for leaf in _leaves(after) if isinstance(leaf, Tensor) and leaf.dtype in DOUBLE]
        expect(not wide, f"a mixer in {dtype} keeps a state in {(*wide, None)[0]}")


def constant_state(trial: Trial) -> None:
    """The bytes of the state do not depend on the position."""
    x = trial.x()
    mixer = trial.mixer(length=2 * x.shape[1])  # room for the sequence twice
    state = mixer.init_state(len(x))
    size = _bytes(state)
    expect(size > 0, "the state is empty")
    for position in range(min(x.shape[1], STEPS)):
        _, state = mixer.step(x[:, position], state)
        expect(
            _bytes(state) == size, f"the state grew from {size} to {_bytes(state)} bytes after {position + 1} tokens"
        )
    _, state = mixer.prefill(x)
    expect(_bytes(state) == size, f"prefill of {x.shape[1]} tokens leaves {_bytes(state)} bytes instead of {size}")
    held, longer = _held(state), _held(mixer.prefill(torch.cat([x, x], dim=1))[1])
    expect(longer == held, f"the state is a view of {held} bytes of memory, of {longer} after twice as many tokens")
    _, state = mixer.step(x[:, 0], state)
    expect(_bytes(state) == size, f"the state grew from {size} to {_bytes(state)} bytes after {x.shape[1] + 1} tokens")


def linear(trial: Trial) -> None:
    """f(a x + b z) = a f(x) + b f(z)."""
    mixer, x, z = trial.mixer(), trial.x(), trial.x(salt=1)
    # The weights do not sum to 1: an affine map must fail.
    expect_near(mixer(3 * x + 2 * z), 3 * mixer(x) + 2 * mixer(z), "f(3x + 2z) against 3 f(x) + 2 f(z)")
    expect_near(mixer(1000 * x), 1000 * mixer(x), "f(1000x) against 1000 f(x)")
    expect(largest(mixer(x)) > 0, "the output is zero")


def shift(trial: Trial) -> None:
    """Masked tokens in front leave the outputs at real tokens as they were; if linear, the matrix is Toeplitz."""
    length, front = trial.split
    mixer, x = trial.mixer(length=front + length), trial.x(length)
    mask = torch.ones(len(x), front + length, dtype=torch.bool)
    mask[:, :front] = False
    for pad in (1.0, torch.nan):
        shifted = torch.cat([pad * trial.x(front, salt=1), x], dim=1)
        expect_near(mixer(shifted, mask)[:, front:], mixer(x), f"{front} masked tokens of {pad} in front")
    if trial.subject.claims and "linear" in trial.subject.claims:
        matrix = _mixing_matrix(mixer, min(length, 9), trial.subject.dim)  # (N, D, N, D)
        expect_near(matrix[1:, :, 1:], matrix[:-1, :, :-1], "entries along the diagonals of the mixing matrix")


def _cross_gradients(
    trial: Trial, mixer: Mixer, length: int, cut: int, dtype: torch.dtype = torch.float64
) -> tuple[float, float]:
    """The largest gradient of the outputs before the cut by the inputs after it, and by any input."""
    x = trial.x(length, dtype=dtype).requires_grad_()
    weights = trial.x(length, salt=3, dtype=dtype)
    (gradient,) = torch.autograd.grad((trial.run(mixer, x) * weights)[:, :cut].sum(), x)
    return largest(gradient[:, cut:]), largest(gradient)


def _expect_outputs(mixer: Mixer, x: Tensor) -> None:
    y = mixer(x)
    expect(y.shape == x.shape, f"N = {x.shape[1]}: shape {tuple(y.shape)} from {tuple(x.shape)}")
    expect_finite(y, f"outputs at N = {x.shape[1]}")


def _leaves(state: State) -> Iterator[Tensor | int]:
    """The tensors and whole numbers of a state; raises BrokenLaw for anything else."""
    if isinstance(state, (dict, tuple, list)):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _leaves(part)
    else:
        expect(isinstance(state, (Tensor, int)), f"the state holds a {type(state).__name__}")
        yield state


def _expect_state(state: State, batch: int) -> None:
    for leaf in _leaves(state):
        if isinstance(leaf, Tensor):
            expect(leaf.shape[:1] == (batch,), f"a state of shape {tuple(leaf.shape)} is not batch ({batch}) first")


def _bytes(state: State) -> int:
    return sum(leaf.numel() * leaf.element_size() if isinstance(leaf, Tensor) else 8 for leaf in _leaves(state))


def _held(state: State) -> int:
    """The bytes of memory that a state keeps from being freed: those of whole storages, of which it may be a view."""
    storages = [leaf.untyped_storage() for leaf in _leaves(state) if isinstance(leaf, Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _mixing_matrix(mixer: Mixer, length: int, dim: int) -> Tensor:
    """Entry [i, c, j, e]: what output channel c at token i takes from input channel e at token j."""
    impulses = torch.eye(length * dim, dtype=torch.float64).reshape(length * dim, length, dim)
    return mixer(impulses).movedim(0, -1).unflatten(-1, (length, dim))
