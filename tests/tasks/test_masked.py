"""Masked language modelling: its blocks, its masks and what it scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tasks
from backbones.cross_entropy import IGNORED
from backbones.masked_lm import MaskedLM, SentenceClassifier
from backbones.stack import Stack
from mixers import build, names
from tasks.masking import SHARE, Special, masked
from tests.tasks.language_files import write_tokenizer, write_wikitext


@pytest.fixture
def task(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MIXERZOO_CACHE", str(tmp_path / "cache"))
    folder, bytes_alone = write_wikitext(tmp_path / "raw"), write_tokenizer(tmp_path / "bytes")
    options = {"path": str(folder), "tokenizer": str(bytes_alone), "length": 300}
    return tasks.load("mlm", tasks.data_options("mlm")(**options))


def stack(name: str = "gtu", **options) -> Stack:
    sizes = {"length": 16, "grid": (4, 4)}
    make = lambda index, depth, shared: build(name, 8, causal=False, **sizes)  # noqa: E731
    return Stack(8, 2, make, **{"width": 12, "length": 16, **options})


def test_masks_are_berts():
    special = Special(ordinary=1000)
    tokens = np.full((400, 200), 7)
    tokens[:, 0] = special.begin
    tokens[::2, 100:] = special.pad
    inputs, targets = masked(tokens, special, np.random.default_rng(0))
    chosen = targets != IGNORED
    assert not chosen[tokens >= special.ordinary].any()
    assert (targets[chosen] == 7).all()
    assert (inputs[~chosen] == tokens[~chosen]).all()
    assert chosen.sum() / (tokens < special.ordinary).sum() == pytest.approx(SHARE, abs=0.01)
    assert np.ptp(chosen[1::2].sum(1)) <= 1  # a fixed share of each sequence
    share = {what: (inputs[chosen] == what).mean() for what in (special.mask, 7)}
    assert share[special.mask] == pytest.approx(0.8, abs=0.02)
    assert share[7] == pytest.approx(0.1, abs=0.02)
    others = inputs[chosen & (inputs != special.mask) & (inputs != 7)]
    assert others.max() < special.ordinary
    assert len(np.unique(others)) > 300
    assert (chosen.sum(1) >= 1).all()


def test_each_block_comes_once_an_epoch_and_is_masked_anew(task):
    count = len(task._blocks["train"])
    seen = [np.where(y != IGNORED, y, x) for x, y in (task.batch(1, seed=0, step=step) for step in range(2 * count))]
    first, second = ([tuple(row[0].tolist()) for row in half] for half in (seen[:count], seen[count:]))
    assert sorted(first) == sorted(second)
    assert first != second
    assert sum(len(row) - 1 for row in first) == len(task._streams["train"])
    again, other = task.batch(4, seed=0, step=3), task.batch(4, seed=0, step=3 + count)
    assert torch.equal(again[0], task.batch(4, seed=0, step=3)[0])
    assert not torch.equal(again[0], other[0])


def test_pads_are_neither_seen_nor_scored(task):
    inputs, targets = task.batch(8, seed=0, step=0)
    assert inputs.shape[1] <= 300
    assert (inputs == task._special.pad).any()
    assert (targets[inputs == task._special.pad] == IGNORED).all()
    assert (inputs[:, 0] == task._special.begin).all()


def test_masked_perplexity_of_a_uniform_model(task):
    class Uniform(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(257))

        def forward(self, tokens, mask, targets):
            return F.cross_entropy(self.logits.expand(*tokens.shape, 257).flatten(0, 1), targets.flatten())

    assert task.evaluate(Uniform(), test=True)["masked_perplexity"] == pytest.approx(257, rel=1e-4)
    assert task.baselines(test=True)["unigram counts"] < 257


def test_the_head_is_scored_where_something_is_to_be_found():
    model = MaskedLM(stack(), vocabulary=11).double().eval()
    nn.init.normal_(model.bias)
    tokens, targets = torch.randint(0, 11, (2, 3, 9))
    targets[:, ::2] = IGNORED
    theirs = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model(tokens, None, targets), theirs)


@pytest.mark.parametrize("name", [name for name in names("padding") if name in names("bidirectional")])
def test_a_classifier_of_sentences_does_not_see_pads(name: str):
    model = SentenceClassifier(stack(name), vocabulary=11, classes=3, dropout=0.1).double().eval()
    tokens = torch.randint(1, 11, (2, 9))
    padded = torch.cat([tokens, torch.zeros(2, 6, dtype=torch.long)], dim=1)
    real = model(tokens, torch.ones_like(tokens, dtype=torch.bool))
    torch.testing.assert_close(model(padded, padded != 0), real)
    assert real.shape == (2, 3)


def test_a_length_of_one_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MIXERZOO_CACHE", str(tmp_path / "cache"))
    options = {"path": str(write_wikitext(tmp_path / "raw")), "length": 1}
    with pytest.raises(ValueError, match=r"data.length=1 must be at least 2"):
        tasks.load("mlm", tasks.data_options("mlm")(**options))
