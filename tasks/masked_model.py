"""The masked language model as a task: the metric is the perplexity of the tokens to be found.

Shapes: B batch, N length.
"""

import numpy as np
import torch
from torch import Tensor, nn

from backbones.masked_lm import MaskedLM
from backbones.seeding import derive
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of
from tasks.counts import unigram_perplexity
from tasks.epochs import epoch_rows
from tasks.masking import Special, masked
from tasks.padding import padded
from tasks.token_model import hash_of
from tasks.tokenizer import Tokenizer
from tasks.tokens import blocks

EVALUATED_AT_ONCE = 16  # sequences


class MaskedModel:
    """Find masked tokens in blocks of whole rows.

    `streams` are the splits, rows that end in the tokenizer's end token. Raises ValueError for a length below 2.
    """

    causal = False
    grid = None
    metric = "masked_perplexity"
    higher_is_better = False

    def __init__(self, streams: dict[str, np.ndarray], tokenizer: Tokenizer, *, length: int, data_note: str):
        if length < 2:
            raise ValueError(f"data.length={length} must be at least 2: a sequence has a begin token and a text")
        self.length = length
        self.data_note = data_note
        self.tokenizer = tokenizer.vocabulary
        self.data_hash = hash_of(streams, tokenizer)
        self._special = Special.of(tokenizer)
        self._streams = streams
        self._blocks = {name: blocks(stream, tokenizer.end, length - 1) for name, stream in streams.items()}

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return MaskedLM(build(Stack), vocabulary=self._special.vocabulary_size, seed=seed)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Inputs and targets (B, N): each block once an epoch, masked anew each time."""
        rows = epoch_rows(len(self._blocks["train"]), size, seed=seed, step=step)
        return self._masked("train", rows, np.random.default_rng(derive(seed, f"mask.{step}")))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats of the tokens to be found."""
        inputs, targets = batch
        return model(inputs, inputs != self._special.pad, targets)

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """exp of the nats a token to be found, each block masked once, always in the same way."""
        split = "test" if test else "validation"
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(self._blocks[split]), EVALUATED_AT_ONCE):
                rows = np.arange(start, min(start + EVALUATED_AT_ONCE, len(self._blocks[split])))
                part = self._masked(split, rows, np.random.default_rng(derive(0, f"{split}.{start}")))
                batch = tuple(tensor.to(device_of(model)) for tensor in part)
                scored = int((batch[1] >= 0).sum())
                total, count = total + self.loss(model, batch).item() * scored, count + scored
        return {self.metric: float(np.exp(total / count))}

    def baselines(self, *, test: bool) -> dict[str, float]:
        """The perplexity of how often each token occurs in the training split."""
        held_out = self._streams["test" if test else "validation"]
        return {"unigram counts": unigram_perplexity(self._streams["train"], held_out, self._special.ordinary)}

    def bar(self) -> tuple[str, str]:
        return "unigram counts", "has not yet learnt more than how often each token occurs"

    def sample(self, count: int, length: int) -> Tensor:
        fits = [row for row, (start, stop) in enumerate(self._blocks["validation"]) if stop - start >= length - 1]
        rows = fits[:count] or [int(np.diff(self._blocks["validation"]).argmax())]
        return torch.from_numpy(padded([self._sequence("validation", row)[:length] for row in rows], self._special.pad))

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        return {}

    def _sequence(self, split: str, row: int) -> np.ndarray:
        start, stop = self._blocks[split][row]
        return np.concatenate([[self._special.begin], self._streams[split][start:stop]])

    def _masked(self, split: str, rows: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        tokens = padded([self._sequence(split, row) for row in rows], self._special.pad)
        inputs, targets = masked(tokens, self._special, generator)
        return torch.from_numpy(inputs), torch.from_numpy(targets)
