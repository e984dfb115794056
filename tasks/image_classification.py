"""Classify images by timm's VisionTransformer around mixers, with timm's augmentation.

Shapes: B batch, S size in pixels, K classes.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.seeding import derive
from backbones.vision_transformer import vision_transformer
from tasks.contract import Batch, Build, device_of
from tasks.image_loading import (
    BatchStream,
    EvaluationParts,
    TrainingParts,
    evaluation_transform,
    read_parts,
    training_transform,
)
from tasks.image_options import ImageOptions, check
from tasks.image_source import Images

TOP = 5
"""The right class among so many is counted too, where there are more classes than that."""


class ImageClassification:
    """Images of S x S pixels in patches, which are the tokens: a grid of them, row by row."""

    causal = False
    metric = "accuracy"
    higher_is_better = True
    tokenizer = None

    def __init__(self, images: Images, options: ImageOptions):
        check(options)
        side = options.size // options.patch
        self.grid, self.length = (side, side), side * side
        self._images, self._options = images, options
        total = len(images.train.labels)
        if options.validation >= total:
            raise ValueError(f"data.validation={options.validation} leaves nothing of {total} training images")
        shuffled = np.random.default_rng(derive(0, "validation")).permutation(total)
        held_out, self._rows = np.sort(shuffled[: options.validation]), np.sort(shuffled[options.validation :])
        whole_test = (images.test, np.arange(len(images.test.labels)))
        self._test = whole_test
        self._validation = (images.train, held_out) if options.validation else whole_test
        self._augmented, self._plain = training_transform(options), evaluation_transform(options)
        self._stream: BatchStream | None = None
        self.data_hash = images.hash
        validated = f"{options.validation:,} training images" if options.validation else "the test images"
        self.data_note = (
            f"{images.note}: {total:,} training and {len(images.test.labels):,} test images of {images.classes} "
            f"classes at {options.size} x {options.size} pixels, validated on {validated}"
        )

    def model(self, build: Build, *, seed: int) -> nn.Module:
        options, classes = self._options, self._images.classes
        return build(vision_transformer, image_size=options.size, patch=options.patch, classes=classes)

    def batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Images (B, 3, S, S), and labels (B,) or shares of classes (B, K): each image once an epoch.

        Raises ValueError for an odd size where images are mixed in pairs.
        """
        if self._stream is None or not self._stream.serves(size, seed, step):
            parts = TrainingParts(self._images.train, self._rows, self._augmented, size, seed)
            self._stream = BatchStream(parts, step, self._options, self._images.classes)
        return self._stream.next()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats; mixed labels are smooth already."""
        images, labels = batch
        smoothing = 0.0 if labels.is_floating_point() else self._options.smoothing
        return F.cross_entropy(model(images).float(), labels, label_smoothing=smoothing)

    def evaluate(self, model: nn.Module, *, test: bool) -> dict[str, float]:
        """The share of images whose class is the likeliest, and the share of those where it is among the first five."""
        right = {1: 0, TOP: 0}
        count, device = 0, device_of(model)
        for images, labels in self._held_out(test):
            with torch.no_grad():
                order = model(images.to(device)).topk(min(TOP, self._images.classes)).indices.cpu()
            hits = order == labels[:, None]
            right[1] += int(hits[:, 0].sum())
            right[TOP] += int(hits.sum())
            count += len(labels)
        found = {self.metric: right[1] / count}
        return {**found, "top5_accuracy": right[TOP] / count} if self._images.classes > TOP else found

    def baselines(self, *, test: bool) -> dict[str, float]:
        """The commonest label of the training images."""
        split, rows = self._test if test else self._validation
        commonest = np.bincount(self._images.train.labels[self._rows]).argmax()
        return {"commonest label": float((split.labels[rows] == commonest).mean())}

    def bar(self) -> tuple[str, str]:
        return "commonest label", "has not yet learnt more than the commonest label"

    def sample(self, count: int, length: int) -> Tensor:
        """The first `count` images (B, 3, S, S) to validate on; all of their patches."""
        split, rows = self._validation
        (part,) = read_parts(EvaluationParts(split, rows[:count], self._plain), range(1), 0)
        return part[0]

    def extrapolate(self, model: nn.Module, lengths: list[int]) -> dict[int, float]:
        return {}

    def _held_out(self, test: bool) -> Iterator[tuple[Tensor, Tensor]]:
        split, rows = self._test if test else self._validation
        parts = EvaluationParts(split, rows, self._plain)
        return read_parts(parts, range(len(parts)), self._options.loaders)
