"""Language models over drawn sequences in which some tokens are answers, fixed by what came before: only those count.

Shapes: B batch, N length.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.causal_lm import CausalLM
from backbones.seeding import derive
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""(generator, B) -> tokens (B, N + 1), and where they are answers (B, N + 1)."""

IGNORED = -100  # the target where no answer stands, as torch's cross-entropy has it
HELD_OUT = {"validation": (0.0, 0.05), "test": (0.05, 0.1), "train": (0.1, 1.0)}
"""Each sequence belongs to one split: that in whose range its hash lies."""
PATIENCE = 100  # draws in vain before the sequences are called too few
EVALUATED_AT_ONCE = 65536  # tokens; bounds the memory of an evaluation


class Recall:
    """Predict the answers of drawn sequences."""

    causal = True
    grid = None
    tokenizer = None
    metric = "accuracy"
    higher_is_better = True

    def __init__(
        self, draw: Draw, *, length: int, vocabulary: int, answers: range, validation: int, test: int, data_note: str
    ):
        """`answers` are the tokens that an answer may be; `validation` and `test` count sequences.

        Raises ValueError where there are too few different sequences for three splits.
        """
        self.length, self.vocabulary, self.answers, self.data_note = length, vocabulary, answers, data_note
        self._draw = draw
        self._validation = self._sequences("validation", validation, np.random.default_rng(0))
        self._test = self._sequences("test", test, np.random.default_rng(1))
        digest = hashlib.sha256()
        for part in (*self._validation, *self._test):
            digest.update(np.ascontiguousarray(part).tobytes())
        self.data_hash = digest.hexdigest()[:16]

    def model(self, build: Build, *, seed: int) -> nn.Module:
        return CausalLM(build(Stack), vocabulary=self.vocabulary, seed=seed)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Inputs and targets (B, N), drawn anew each step."""
        generator = np.random.default_rng(derive(seed, f"batch.{step}"))
        return _inputs_and_targets(*self._sequences("train", size, generator))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the answers in nats."""
        tokens, targets = batch
        logits = model(tokens)[targets != IGNORED]
        return F.cross_entropy(logits.float(), targets[targets != IGNORED])

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """The share of answers that the likeliest token gives."""
        tokens, targets = _inputs_and_targets(*self._held_out(test))
        rows, right = max(1, EVALUATED_AT_ONCE // self.length), 0
        with torch.no_grad():
            for start in range(0, len(tokens), rows):
                inputs, wanted = (part[start : start + rows].to(device_of(model)) for part in (tokens, targets))
                right += int((model(inputs).argmax(-1) == wanted).sum())  # IGNORED is no token
        return {self.metric: right / int((targets != IGNORED).sum())}

    def baselines(self, *, test: bool) -> dict[str, float]:
        """Any token that may be an answer, and the one of them that came last before the question."""
        tokens, asked = self._held_out(test)
        place = np.where(np.isin(tokens, self.answers), np.arange(tokens.shape[1]), -1)
        latest = np.maximum.accumulate(place, axis=1)[:, :-1]  # before each token but the first
        right = (latest >= 0) & (np.take_along_axis(tokens, latest, axis=1) == tokens[:, 1:])
        return {"chance": 1 / len(self.answers), "most recent": float(right[asked[:, 1:]].mean())}

    def bar(self) -> tuple[str, str]:
        return "chance", "has not yet learnt more than chance"

    def sample(self, count: int, length: int) -> Tensor:
        return _inputs_and_targets(*self._validation)[0][:count, :length]

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        return {}

    def _held_out(self, test: bool) -> tuple[np.ndarray, np.ndarray]:
        return self._test if test else self._validation

    def _sequences(self, split: str, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`count` sequences of a split."""
        low, high = HELD_OUT[split]
        tokens = np.zeros((0, self.length + 1), dtype=np.int64)
        asked = np.zeros(tokens.shape, dtype=bool)
        for _ in range(PATIENCE):
            if len(tokens) >= count:
                return tokens[:count], asked[:count]
            drawn, answers = self._draw(generator, int(1.2 * (count - len(tokens)) / (high - low)) + 8)
            share = _share(drawn)
            kept = (low <= share) & (share < high)
            tokens, asked = np.concatenate([tokens, drawn[kept]]), np.concatenate([asked, answers[kept]])
        raise ValueError(f"too few different sequences for a {split} split; raise data.length or the number of symbols")


def require_at_least(data: object, **least: int) -> None:
    """Raise ValueError for an option below its least value."""
    for key, value in least.items():
        if getattr(data, key) < value:
            raise ValueError(f"data.{key}={getattr(data, key)} must be at least {value}")


def shuffled(generator: np.random.Generator, rows: int, count: int, chosen: int) -> np.ndarray:
    """`chosen` different numbers below `count` in each of `rows` rows, in random order: (rows, chosen)."""
    return generator.random((rows, count)).argsort(1)[:, :chosen]


def _share(tokens: np.ndarray) -> np.ndarray:
    """A hash of each sequence (B,), evenly spread from 0 to 1."""
    weights = np.random.default_rng(0).integers(1, 2**63, tokens.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    mixed = ((tokens.astype(np.uint64) + np.uint64(1)) * weights).sum(1, dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(11)) / 2.0**53


def _inputs_and_targets(tokens: np.ndarray, asked: np.ndarray) -> tuple[Tensor, Tensor]:
    whole = torch.from_numpy(tokens)
    return whole[:, :-1], whole[:, 1:].masked_fill(~torch.from_numpy(asked[:, 1:]), IGNORED)
