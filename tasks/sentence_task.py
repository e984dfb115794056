"""Classifying or scoring sentences and pairs of sentences, as fairseq sets GLUE up for RoBERTa.

Shapes: B batch, N length.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.masked_lm import SentenceClassifier
from backbones.stack import Stack
from tasks.contract import Batch, Build, device_of
from tasks.epochs import epoch_rows
from tasks.glue_files import BEST_SCORE, SUBSETS, Examples
from tasks.masking import Special
from tasks.padding import padded
from tasks.tokenizer import Tokenizer
from tasks.tokens import ends_of_rows, token_stream

EVALUATED_AT_ONCE = 32  # sequences
DROPOUT = 0.1  # of the head

METRICS = {
    "cola": ("matthews_correlation",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
}
"""What GLUE measures, the judged one first; accuracy elsewhere."""


class SentenceTask:
    """One of GLUE's tasks. A sequence is begin, text, end, and of a pair also end, text, end.

    The labels of GLUE's test splits are not public: the development split stands for validation and test alike.
    """

    causal = False
    grid = None
    higher_is_better = True

    def __init__(self, name: str, splits: dict[str, Examples], tokenizer: Tokenizer, *, length: int):
        self.length = length
        self.tokenizer = tokenizer.vocabulary
        self._metrics = METRICS.get(name, ("accuracy",))
        self.metric = self._metrics[0]
        self._classes = SUBSETS[name].classes
        self._special = Special.of(tokenizer)
        self._sequences, self._labels = {}, {}
        digest = hashlib.sha256(tokenizer.vocabulary.encode())
        for split, examples in splits.items():
            self._sequences[split] = self._encode(examples, tokenizer)
            self._labels[split] = np.array(examples.labels, np.float64 if self._classes is None else np.int64)
            digest.update("\0".join([split, *("\0".join(texts) for texts in examples.texts)]).encode())
            digest.update(self._labels[split].tobytes())
        self.data_hash = digest.hexdigest()[:16]
        self.examples = count = len(self._labels["train"])
        self.data_note = (
            f"GLUE's {name}, {count:,} training examples ({tokenizer.name}; three epochs are train.tokens="
            f"{3 * count * length}); the development split stands for validation and test"
        )

    def _encode(self, examples: Examples, tokenizer: Tokenizer) -> list[np.ndarray]:
        rows = [text for texts in examples.texts for text in texts]
        source = hashlib.sha256("\0".join(rows).encode()).hexdigest()
        stream = token_stream(rows, source, tokenizer)
        parts = np.split(stream, ends_of_rows(stream, tokenizer.end)[:-1])
        if len(parts) != len(rows):
            raise ValueError(
                f"a text holds the token that ends texts in data.tokenizer={tokenizer.name}; take another one"
            )
        width = len(examples.texts[0])
        pairs = (parts[start : start + width] for start in range(0, len(parts), width))
        between, begin = np.array([tokenizer.end]), np.array([self._special.begin])
        joined = ([begin, pair[0], *(part for text in pair[1:] for part in (between, text))] for pair in pairs)
        return [np.concatenate(parts)[: self.length] for parts in joined]

    def model(self, build: Build, *, seed: int) -> nn.Module:
        classes = 1 if self._classes is None else len(self._classes)
        return SentenceClassifier(
            build(Stack), vocabulary=self._special.vocabulary_size, classes=classes, dropout=DROPOUT, seed=seed
        )

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Tokens (B, N) and labels (B,): each example once an epoch."""
        return self._part("train", epoch_rows(len(self._labels["train"]), size, seed=seed, step=step))

    def _part(self, split: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        tokens = padded([self._sequences[split][row] for row in rows], self._special.pad)
        return torch.from_numpy(tokens), torch.from_numpy(self._labels[split][rows])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats; of scores, the mean squared error over the best score."""
        tokens, labels = batch
        output = model(tokens, tokens != self._special.pad).float()
        if self._classes is None:
            return F.mse_loss(output[:, 0], (labels / BEST_SCORE).float())
        return F.cross_entropy(output, labels)

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """GLUE's own metrics on the development split; MNLI's mismatched one beside the matched."""
        return self._scores(lambda split: self._predict(model, split))

    def _predict(self, model: nn.Module, split: str) -> np.ndarray:
        outputs = []
        with torch.no_grad():
            for start in range(0, len(self._labels[split]), EVALUATED_AT_ONCE):
                rows = np.arange(start, min(start + EVALUATED_AT_ONCE, len(self._labels[split])))
                tokens = self._part(split, rows)[0].to(device_of(model))
                output = model(tokens, tokens != self._special.pad).float()
                outputs.append(output[:, 0] if self._classes is None else output.argmax(-1))
            return torch.cat(outputs).cpu().numpy()

    def _scores(self, predict: Callable[[str], np.ndarray]) -> dict[str, float]:
        held_out = [split for split in self._labels if split != "train"]
        values = {}
        for split in held_out:
            suffix = "_mismatched" if split == "validation_mismatched" else ""
            predicted = predict(split)
            for metric in self._metrics:
                values[metric + suffix] = measure(metric, self._labels[split], predicted)
        return values

    def baselines(self, *, test: bool) -> dict[str, float]:
        """What the commonest class of the training split would score; 0 for scores, which nothing constant orders."""
        labels = self._labels["train"]
        commonest = labels.mean() if self._classes is None else np.bincount(labels).argmax()
        scores = self._scores(lambda split: np.full(len(self._labels[split]), commonest))
        return {"commonest label": scores[self.metric]}

    def bar(self) -> tuple[str, str]:
        return "commonest label", "has not yet learnt more than which label is the commonest"

    def sample(self, count: int, length: int) -> Tensor:
        split = next(split for split in self._labels if split != "train")
        longest = sorted(self._sequences[split], key=len, reverse=True)[:count]
        shortest = min(length, *(len(sequence) for sequence in longest))
        return torch.from_numpy(np.stack([sequence[:shortest] for sequence in longest]).astype(np.int64))

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        return {}


def measure(metric: str, labels: np.ndarray, predicted: np.ndarray) -> float:
    """A metric of GLUE by scikit-learn or scipy; the correlation with something constant is 0."""
    from scipy import stats
    from sklearn import metrics as library

    if metric in ("pearson", "spearman"):
        if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
            return 0.0
        correlate: Any = stats.pearsonr if metric == "pearson" else stats.spearmanr
        return float(correlate(labels, predicted)[0])
    functions: dict[str, Any] = {
        "accuracy": library.accuracy_score,
        "f1": library.f1_score,
        "matthews_correlation": library.matthews_corrcoef,
    }
    options = {"zero_division": 0} if metric == "f1" else {}
    return float(functions[metric](labels, predicted, **options))
