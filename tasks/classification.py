"""Classification of sequences: the metric is accuracy.

Shapes: B batch, N length.
"""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.encoder import Encoder
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of
from tasks.epochs import epoch_rows
from tasks.examples import Examples

EVALUATED_AT_ONCE = 65536  # tokens; bounds the memory of an evaluation


class Classification:
    """Predict the label of sequences, given as three splits."""

    causal = False
    grid: tuple[int, int] | None = None
    tokenizer = None
    metric = "accuracy"
    higher_is_better = True

    def __init__(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        *,
        vocabulary: int | None,
        classes: int,
        data_note: str,
        validated: int | None = None,
    ):
        """`vocabulary` None: tokens are grey values. `validated` examples of the validation split are scored, a random
        choice; None: all.

        Raises ValueError for a split without examples.
        """
        self.length = train.length
        self.vocabulary, self.classes, self.data_note = vocabulary, classes, data_note
        digest = hashlib.sha256()
        for name, split in (("train", train), ("validation", validation), ("test", test)):
            if len(split) == 0:
                raise ValueError(f"the {name} split holds no examples")
            split.update(digest)
        self.data_hash = digest.hexdigest()[:16]
        if validated is not None and validated < len(validation):
            validation = validation.chosen(np.sort(np.random.default_rng(0).permutation(len(validation))[:validated]))
        self.train, self.validation, self.test = train, validation, test

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return Encoder(build(Stack), vocabulary=self.vocabulary, classes=self.classes, seed=seed)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Tokens (B, N), lengths (B,) and labels (B,): each example once an epoch, epochs in an order of their own."""
        return self.train.take(epoch_rows(len(self.train), size, seed=seed, step=step))

    def logits(self, model: nn.Module, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The classes' logits (B, C); images have no pads."""
        if self.grid is not None:
            return model(tokens)
        return model(tokens, torch.arange(tokens.shape[-1], device=tokens.device) < lengths[..., None])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        tokens, lengths, labels = batch
        return F.cross_entropy(self.logits(model, tokens, lengths).float(), labels)

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """The share of examples whose label is right."""
        split, right = self.held_out(test), 0
        with torch.no_grad():
            for part in split.parts(max(1, EVALUATED_AT_ONCE // self.length)):
                tokens, lengths, labels = (tensor.to(device_of(model)) for tensor in part)
                right += int((self.logits(model, tokens, lengths).argmax(-1) == labels).sum())
        return {self.metric: right / len(split)}

    def held_out(self, test: bool) -> Examples:
        return self.test if test else self.validation

    def baselines(self, *, test: bool) -> dict[str, float]:
        """The commonest label of the training examples, given to all."""
        commonest = np.bincount(self.train.labels()).argmax()
        return {"commonest label": float((self.held_out(test).labels() == commonest).mean())}

    def bar(self) -> tuple[str, str]:
        return "commonest label", "has not yet learnt more than the commonest label"

    def sample(self, count: int, length: int) -> Tensor:
        tokens = self.validation.take(self.validation.longest_first()[:count])[0]
        return (tokens if tokens.dim() == 2 else tokens[:, 0])[:, :length]

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        return {}
