"""What a model costs, against counts by hand."""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.assemble import build_model, resolve
from experiments.config import Run, load
from experiments.dependence import dependence
from experiments.measure import COUNTS, backends, flops_per_token, state_bytes
from tasks.byte_model import ByteModel

SPLITS = {name: [b"the quick brown fox jumps over the lazy dog. " * 30] for name in ("train", "validation", "test")}
TASK = ByteModel(SPLITS, length=16, validation_bytes=400, test_bytes=100, data_note="")


def model(*arguments: str):
    run = resolve(load(Run, ["backbone.dim=8", "backbone.depth=2", *arguments]), causal=True)
    return run, build_model(run, TASK)


def test_fourier_transforms_are_counted():
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
        torch.fft.irfft(torch.fft.rfft(torch.randn(3, 16), 32), 32)
    assert counter.get_total_flops() == 2 * 3 * 2.5 * 32 * math.log2(32)


def test_flops_of_a_model_without_mixing_are_those_of_its_head():
    _, convolution = model("mixer=convolution", "backbone.channel=none")
    head = 3 * 2 * 8 * 256  # forward, and two products backward
    taps = 3 * 2 * 2 * 4 * 8  # two layers of four taps a channel, forward and two products backward
    assert flops_per_token(TASK, convolution, 2) == head + taps


def test_flops_of_attention_grow_with_the_length():
    """Two products of N x N x dim forward and four backward, in each of two layers: 2 * 6 * N * dim more a token."""
    short, long = (
        flops_per_token(
            ByteModel(SPLITS, length=n, validation_bytes=400, test_bytes=400, data_note=""),
            model("mixer=softmax")[1],
            batch_size=2,
        )
        for n in (16, 32)
    )
    assert long - short == 2 * (2 * 6 * 16 * 8)


def test_flops_of_a_large_batch_are_counted_on_two_of_its_sequences():
    """The encoder of the coefficients runs once a batch, all else once a sequence."""
    built, seen = model("mixer=gtu")[1], []
    built.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    counted = flops_per_token(TASK, built, 6)
    assert seen == [1, 2]
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
        TASK.loss(built, TASK.batch(6, seed=0, step=0)).backward()
    assert counted == counter.get_total_flops() / (6 * TASK.length)


def test_state_bytes_are_those_of_the_real_state():
    assert state_bytes(TASK, model("mixer=softmax")[1]) == 2 * 2 * 16 * 8 * 4  # layers, K and V, tokens, dim, float32
    assert state_bytes(TASK, model("mixer=convolution")[1]) == 2 * 3 * 8 * 4


def test_backends_are_recorded():
    assert set(backends(*_with_task("mixer=softmax")).values()) == {"sdpa"}
    assert set(backends(*_with_task("mixer=gtu")).values()) == {"fft"}
    assert backends(*_with_task("mixer=s4d")) == {}


def test_dependence_of_a_causal_model_is_lower_triangular():
    rows = torch.tensor(dependence(TASK, model("mixer=convolution")[1].eval()))
    assert rows.shape == (16, 16)
    assert rows.triu(1).abs().max() == 0
    assert rows.max(dim=1).values.eq(1).all()
    reach = 2 * 3  # two layers of four taps
    assert rows.tril(-reach - 1).abs().max() == 0
    assert rows.diagonal(-reach).min() > 0


def _with_task(argument: str):
    run, built = model(argument)
    return run, TASK, built
