"""Recall: every question has one answer, fixed by what came before, and the splits have no sequence in common."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tasks
from experiments.assemble import build_model, resolve
from experiments.config import Run, load
from tasks.recall import associative, copying, induction
from tasks.recall.questions import IGNORED

PROBLEMS = [name for name in tasks.names() if name.startswith("recall/")]


def task(name: str, **options):
    return tasks.load(name, tasks.data_options(name)(**{"validation": 20, "test": 30, **options}))


def by_key(context: list[int], data: associative.Data) -> int:
    """The value after the last token's one earlier occurrence."""
    (place,) = [place for place, token in enumerate(context[:-1]) if token == context[-1] and token <= data.keys]
    return context[place + 1]


def by_order(context: list[int], data: copying.Data) -> int:
    """The symbol whose turn it is: as many follow the mark as are repeated already."""
    mark = context.index(copying.MARK)
    symbols = [token for token in context[:mark] if token != copying.BLANK]
    return symbols[len(context) - mark - 1]


def by_special(context: list[int], data: induction.Data) -> int:
    assert context[-1] == data.symbols
    return context[context.index(data.symbols) + 1]


SOLVERS = {
    "recall/associative": by_key,
    "recall/copying": by_order,
    "recall/selective_copying": by_order,
    "recall/induction": by_special,
}


NARROW = {
    "recall/associative": {"length": 7, "pairs": 2, "queries": 2, "keys": 3, "values": 4},
    "recall/copying": {"length": 12, "items": 6, "symbols": 3},
    "recall/selective_copying": {"length": 10, "items": 4, "symbols": 2},
    "recall/induction": {"length": 9, "symbols": 2},
}
"""So few different sequences that training meets most of them."""


@st.composite
def problems(draw):
    name = draw(st.sampled_from(PROBLEMS))
    length = draw(st.integers(24, 60))
    if name == "recall/associative":
        pairs = draw(st.integers(1, 6))
        options = {"pairs": pairs, "queries": draw(st.integers(1, pairs)), "keys": draw(st.integers(max(pairs, 6), 9))}
        return name, {"length": length, "values": draw(st.integers(6, 9)), **options}
    if name == "recall/induction":
        return name, {"length": length, "symbols": draw(st.integers(2, 9))}
    return name, {"length": length, "items": draw(st.integers(8, 12)), "symbols": draw(st.integers(3, 9))}


@given(problems(), st.integers(0, 99))
def test_every_question_has_the_answer_that_the_rules_give(problem, seed: int):
    name, options = problem
    subject, data = task(name, **options), tasks.data_options(name)(**options)
    inputs, targets = subject.batch(8, seed=seed, step=seed)
    assert inputs.shape == targets.shape == (8, data.length)
    assert inputs.min() >= 0
    assert inputs.max() < subject.vocabulary
    asked = (targets != IGNORED).nonzero().tolist()
    assert {row for row, _ in asked} == set(range(8))
    for row, place in asked:
        answer = SOLVERS[name](inputs[row, : place + 1].tolist(), data)
        assert targets[row, place] == answer
        assert answer in subject.answers
        assert place + 1 == data.length or inputs[row, place + 1] == answer  # as in a language model


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_sequence_is_in_two_splits(name: str):
    subject = task(name, **NARROW[name])
    held_out = [{tuple(row) for row in part.tolist()} for part in (subject._validation[0], subject._test[0])]
    assert not held_out[0] & held_out[1]
    for step in range(10):
        inputs, targets = subject.batch(64, seed=0, step=step)
        whole = torch.cat([inputs, targets[:, -1:]], dim=1)  # which ends in an answer
        assert (whole != IGNORED).all()
        assert not {tuple(row) for row in whole.tolist()} & (held_out[0] | held_out[1])


@pytest.mark.parametrize("name", PROBLEMS)
def test_batches_depend_on_seed_and_step_alone(name: str):
    subject = task(name)
    first, again = subject.batch(4, seed=1, step=5), task(name).batch(4, seed=1, step=5)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], subject.batch(4, seed=1, step=6)[0])
    assert not torch.equal(first[0], subject.batch(4, seed=2, step=5)[0])
    assert subject.data_hash == task(name).data_hash != task(name, validation=21).data_hash


class Fixed(nn.Module):
    """Gives every place the same logits."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, -1)


def test_only_answers_are_scored():
    subject = task("recall/copying", items=4, symbols=3)
    logits = torch.tensor([9.0, 8.0, 1.0, 2.0, 0.0])
    tokens, targets = subject.batch(16, seed=0, step=0)
    expected = F.cross_entropy(logits.expand(64, 5), tokens[:, :4].flatten())
    torch.testing.assert_close(subject.loss(Fixed(logits), (tokens, targets)).detach(), expected)
    threes = (subject._test[0][:, :4] == 3).mean()
    likeliest = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
    assert subject.evaluate(Fixed(likeliest), test=True) == {"accuracy": pytest.approx(threes)}


def test_baselines_are_their_definitions():
    subject = task("recall/selective_copying", items=3, symbols=4, length=12)
    tokens, asked = subject._test
    right = []
    for row, where in zip(tokens.tolist(), asked.tolist(), strict=True):
        for place in np.flatnonzero(where):
            earlier = [token for token in row[:place] if token >= 2]
            right.append(earlier[-1] == row[place])
    assert subject.baselines(test=True) == {"chance": 0.25, "most recent": pytest.approx(np.mean(right))}
    assert subject.bar()[0] in subject.baselines(test=True)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("mixer", ["gtu", "softmax"])
def test_two_rows_train_on_each_problem(name: str, mixer: str):
    subject = task(name, length=32)
    model = build_model(resolve(load(Run, [f"task={name}", f"mixer={mixer}", "backbone.dim=8"]), True), subject)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = subject.loss(model, subject.batch(8, seed=0, step=0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert 0 <= subject.evaluate(model.eval(), test=False)["accuracy"] <= 1
    assert subject.sample(2, 9).shape == (2, 9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("associative", {"queries": 9}, "data.queries=9, data.pairs=4 and data.keys=16 must not fall"),
        ("associative", {"keys": 3}, "data.pairs=4 and data.keys=3 must not fall in this order"),
        ("associative", {"length": 14}, r"data.length=14 must be at least 2 \* \(pairs \+ queries\) - 1 = 15"),
        ("associative", {"values": 1}, "data.values=1 must be at least 2"),
        ("copying", {"items": 40}, r"data.length=64 must be at least 2 \* items = 80"),
        ("selective_copying", {"items": 0}, "data.items=0 must be at least 1"),
        ("copying", {"items": 1, "symbols": 2, "length": 2}, "too few different sequences for a validation split"),
        ("induction", {"length": 2}, "data.length=2 must be at least 3"),
        ("induction", {"symbols": 1}, "data.symbols=1 must be at least 2"),
    ],
)
def test_problems_that_cannot_be_are_one_clear_line(name: str, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        task(f"recall/{name}", **options)
