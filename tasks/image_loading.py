"""Images as tensors: read, augmented by timm, and put together into batches, by processes that work ahead.

Shapes: B batch, S size in pixels, K classes.
"""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.seeding import derive, seeded
from tasks.contract import DataError
from tasks.epochs import epoch_rows
from tasks.image_options import ImageOptions
from tasks.image_source import Split

PART = 64
"""Images that one process reads at a time: a batch consists of such parts, so few of its images wait in memory."""

PROCESSES = min(32, os.cpu_count() or 1)
"""How many read ahead beside a GPU: one reads some hundred photographs a second."""


def training_transform(options: ImageOptions) -> Any:
    """PIL image -> (3, S, S), augmented by draws from the global generators.

    Raises ValueError where timm does not understand data.augment.
    """
    from timm.data import create_transform

    try:
        transform: Any = create_transform(
            (3, options.size, options.size),
            is_training=True,
            scale=(options.smallest_crop, 1.0),
            hflip=options.flip,
            color_jitter=options.jitter,
            auto_augment=options.augment or None,
            interpolation="bicubic",
            re_prob=options.erase,
            re_mode="pixel",
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(f"data.augment={options.augment} is no auto_augment of timm: {error}") from error
    for step in transform.transforms:
        policies = [getattr(step, "ops", []), *getattr(step, "policy", [])]
        for operation in (each for policy in policies for each in policy):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterize
    return transform


def _posterize(image: Any, bits: int, **rest: Any) -> Any:
    """timm's, which keeps the first `bits` of each colour; of none black is left, which Pillow refuses from 13 on."""
    from PIL import Image
    from timm.data.auto_augment import posterize

    return posterize(image, bits) if bits else Image.new(image.mode, image.size)


def evaluation_transform(options: ImageOptions) -> Any:
    """PIL image -> (3, S, S), without chance."""
    from timm.data import create_transform

    return create_transform((3, options.size, options.size), interpolation="bicubic", crop_pct=options.centre)


@contextmanager
def drawing(seed: int, path: str) -> Iterator[None]:
    """Draw from generators of `path`, Python's, numpy's and torch's, and leave the global ones as they were."""
    python, array = random.getstate(), np.random.get_state()
    try:
        random.seed(derive(seed, path))
        np.random.seed(derive(seed, path) % 2**32)
        with seeded(seed, path):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


@dataclass(frozen=True)
class EvaluationParts(Dataset):
    """Part `index` of some rows of a split: images (B, 3, S, S) and labels (B,), or the DataError of one of them."""

    split: Split
    rows: np.ndarray
    transform: Any

    def __len__(self) -> int:
        return -(-len(self.rows) // PART)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | DataError:
        return _tensors(self.split, self.rows[index * PART : (index + 1) * PART], self.transform)


@dataclass(frozen=True)
class TrainingParts(Dataset):
    """The parts of training batches, one batch after the other: each row once an epoch, augmented anew."""

    split: Split
    rows: np.ndarray
    transform: Any
    size: int
    seed: int

    @property
    def parts(self) -> int:
        """How many parts a batch has."""
        return -(-self.size // PART)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | DataError:
        step, part = divmod(index, self.parts)
        chosen = epoch_rows(len(self.rows), self.size, seed=self.seed, step=step)[part * PART : (part + 1) * PART]
        with drawing(self.seed, f"augment.{step}.{part}"):
            return _tensors(self.split, self.rows[chosen], self.transform)


def read_parts(parts: Dataset, order: range, processes: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts in `order`, read ahead by processes where there are any.

    Raises DataError for an image that cannot be read.
    """
    if processes is None:
        processes = PROCESSES if torch.cuda.is_available() else 0
    own = torch.Generator()  # else the loader draws from the global one
    for part in DataLoader(parts, batch_size=None, sampler=order, num_workers=processes, generator=own):  # pyright: ignore[reportArgumentType]
        if isinstance(part, DataError):
            raise part
        yield part


class BatchStream:
    """Training batches in order, from `step` on; mixup and cutmix by timm where the options have them."""

    def __init__(self, parts: TrainingParts, step: int, options: ImageOptions, classes: int):
        self.parts, self.step, self.options, self.classes = parts, step, options, classes
        order = range(step * parts.parts, sys.maxsize)
        self._parts = read_parts(parts, order, options.loaders)

    def serves(self, size: int, seed: int, step: int) -> bool:
        """Whether the next batch is the wanted one."""
        return (self.parts.size, self.parts.seed, self.step) == (size, seed, step)

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S), and labels (B,) or, where images are mixed, shares of classes (B, K)."""
        images, labels = (
            torch.cat(each) for each in zip(*(next(self._parts) for _ in range(self.parts.parts)), strict=True)
        )
        if self.options.mixup or self.options.cutmix:
            images, labels = self._mix(images, labels)
        self.step += 1
        return images, labels

    def _mix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        from timm.data import Mixup

        if len(images) % 2:
            raise ValueError(f"train.batch={len(images)} must be even: mixup and cutmix mix images in pairs")
        mix = Mixup(
            self.options.mixup,
            self.options.cutmix,
            label_smoothing=self.options.smoothing,
            num_classes=self.classes,
        )
        with drawing(self.parts.seed, f"mixup.{self.step}"):
            return mix(images, labels)


def _tensors(split: Split, rows: np.ndarray, transform: Any) -> tuple[Tensor, Tensor] | DataError:
    """An error is handed over as a value: a loader's process would wrap it in its traceback."""
    try:
        images = torch.stack([transform(split.decode(row)) for row in rows])
    except DataError as error:
        return error
    return images, torch.from_numpy(split.labels[rows])
