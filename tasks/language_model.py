"""Causal language modelling over a stream of tokens, whatever they stand for.

Shapes: B batch, N length.
"""

from collections import defaultdict
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from backbones.causal_lm import CausalLM
from backbones.seeding import derive
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of

EVALUATED_AT_ONCE = 8192  # tokens; bounds the memory of an evaluation


class LanguageModel:
    """Predict the next token. A task says what its tokens are, and turns nats into its metric.

    `train`, `validation` and `test` are streams of token ids (one-dimensional, maybe memory-mapped).
    """

    causal = True
    grid = None
    higher_is_better = False

    def __init__(
        self, *, vocabulary_size: int, length: int, train: np.ndarray, validation: np.ndarray, test: np.ndarray
    ):
        self.length = length
        self.vocabulary_size = vocabulary_size
        self._train, self._validation, self._test = train, validation, test

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return CausalLM(build(Stack), vocabulary=self.vocabulary_size, seed=seed)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Random windows of the training stream: inputs and targets (B, N)."""
        generator = np.random.default_rng(derive(seed, f"batch.{step}"))
        starts = generator.integers(0, len(self._train) - self.length, size=size)
        return _inputs_and_targets(np.stack([self._train[start : start + self.length + 1] for start in starts]))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        return model(*batch)

    def nats(self, model: nn.Module, streams: list[np.ndarray], length: int) -> tuple[float, int]:
        """The cross-entropy in all of the streams' tokens but the first of each, and their number.

        The streams are cut into windows of `length` that do not overlap; the last of a stream may be shorter.
        """
        total, count = 0.0, 0
        with torch.no_grad():
            for windows in windows_of(streams, length):
                rows = max(1, EVALUATED_AT_ONCE // windows.shape[1])
                for start in range(0, len(windows), rows):
                    batch = _inputs_and_targets(windows[start : start + rows])
                    batch = tuple(tensor.to(device_of(model)) for tensor in batch)
                    scored = batch[1].numel()
                    total, count = total + self.loss(model, batch).item() * scored, count + scored
        return total, count

    def sample(self, count: int, length: int) -> Tensor:
        windows = next(windows_of([self._validation], length))
        return _inputs_and_targets(windows[:count])[0]

    def value(self, nats: float, tokens: int) -> float:
        """The metric of so many nats in so many tokens."""
        raise NotImplementedError

    def extrapolation_streams(self, longest: int) -> list[np.ndarray]:
        """The held-out streams that all lengths up to `longest` are scored on."""
        raise NotImplementedError

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        """The metric by length, over the same tokens for each.

        Lengths longer than any stream are left out, and those that the model refuses with a ValueError.
        """
        lengths = [length for length in lengths if self.extrapolation_streams(length)]
        if not lengths:
            return {}
        streams = self.extrapolation_streams(max(lengths))
        values = {}
        for length in lengths:
            with suppress(ValueError):
                values[length] = self.value(*self.nats(model, streams, length))
        return values

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt."""
        raise NotImplementedError

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens."""
        raise NotImplementedError


def windows_of(streams: list[np.ndarray], length: int):
    """Groups (windows, n + 1) of neighbouring windows that share one token, so that each but the first of a stream is
    predicted once: those of n = length, and then the shorter ones at the ends of the streams.
    """
    groups: dict[int, list[np.ndarray]] = defaultdict(list)
    for stream in streams:
        for start in range(0, len(stream) - 1, length):
            window = stream[start : start + length + 1]
            groups[-len(window)].append(window)
    for _, windows in sorted(groups.items()):
        yield np.stack(windows)


def _inputs_and_targets(windows: np.ndarray) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(windows.astype(np.int64))
    return tokens[:, :-1], tokens[:, 1:]
