"""Image tasks: batches, labels and the metric."""

import copy
import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tasks
from tests.tasks.image_files import COLOURS, task

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("augment", ["rand-m10-inc1", "v0"])
def test_augmentation_may_be_as_strong_as_it_can(cifar: Path, augment: str):
    found = task("cifar10", cifar, validation=4, augment=augment)
    assert torch.stack([found.batch(100, seed=0, step=step)[0] for step in range(2)]).isfinite().all()


def test_batches_depend_on_seed_and_step_alone(cifar: Path):
    one, other = (task("cifar10", cifar, validation=4) for _ in range(2))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # what they draw from does not matter
    first = [one.batch(8, seed=3, step=step) for step in range(4)]
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    for step in (3, 2, 0, 1):
        images, labels = other.batch(8, seed=3, step=step)
        assert torch.equal(images, first[step][0])
        assert torch.equal(labels, first[step][1])
    assert not torch.equal(first[0][0], one.batch(8, seed=4, step=0)[0])


def test_batches_leave_the_global_generators_alone(cifar: Path):
    found = task("cifar10", cifar, validation=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    found.batch(8, seed=0, step=0)
    found.evaluate(model, test=True)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_processes_that_read_ahead_change_nothing(cifar: Path):
    alone, helped = (task("cifar10", cifar, validation=4, loaders=loaders) for loaders in (0, 2))
    for step in (0, 1, 5):
        for one, other in zip(alone.batch(130, seed=0, step=step), helped.batch(130, seed=0, step=step), strict=True):
            assert torch.equal(one, other)


def test_runs_that_share_a_task_do_not_take_each_others_batches(cifar: Path):
    """As where several mixers are timed in turns: each continues a copy of one task."""
    first = task("cifar10", cifar, validation=4, loaders=2)
    expected = [first.batch(8, seed=0, step=step)[0] for step in range(4)]
    copies = [copy.copy(first) for _ in range(2)]
    for step in range(4):
        for each in copies:
            assert torch.equal(each.batch(8, seed=0, step=step)[0], expected[step])


def test_an_epoch_holds_every_training_image_once_and_no_other(cifar: Path):
    plain = {"augment": "", "smallest_crop": 1.0, "flip": 0.0, "jitter": 0.0, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0}
    found = task("cifar10", cifar, validation=4, **plain)
    seen = torch.cat([found.batch(5, seed=0, step=step)[0] for step in range(4)])  # 20 images
    held_out = found.sample(4, 1)
    assert len({image.numpy().tobytes() for image in torch.cat([seen, held_out])}) == 24
    assert found.baselines(test=True)["commonest label"] == pytest.approx(2 / 12)


def test_mixed_images_have_mixed_labels(cifar: Path):
    found = task("cifar10", cifar, validation=4, smoothing=0.1)
    images, labels = found.batch(8, seed=0, step=0)
    assert images.shape == (8, 3, 32, 32)
    assert labels.shape == (8, 10)
    assert torch.allclose(labels.sum(1), torch.ones(8))
    assert labels.min() == pytest.approx(0.01)
    assert 0.05 < labels.max() < 0.95
    with pytest.raises(ValueError, match=r"train\.batch=7 must be even"):
        found.batch(7, seed=0, step=0)


def test_labels_are_smoothed_whether_or_not_images_are_mixed(cifar: Path):
    logits = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    found = task("cifar10", cifar, validation=4, mixup=0.0, cutmix=0.0, smoothing=0.2)
    images, labels = found.batch(8, seed=0, step=0)
    shares = torch.nn.functional.one_hot(labels, 10) * 0.8 + 0.02  # what timm's mixing makes of a label left alone
    by_hand = -(shares * logits(images).log_softmax(1)).sum(1).mean()
    assert found.loss(logits, (images, labels)).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert found.loss(logits, (images, shares)).item() == pytest.approx(by_hand.item(), rel=1e-5)


class Colours(nn.Module):
    """Logits by how near an image's colour is to each class's; `shift` moves the right class down by so many places."""

    def __init__(self, classes: int, shift: int = 0):
        super().__init__()
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        colours = torch.tensor(COLOURS[:classes]) / 255
        self.centres = nn.Parameter(
            (colours - torch.tensor(IMAGENET_DEFAULT_MEAN)) / torch.tensor(IMAGENET_DEFAULT_STD)
        )
        self.shift = shift

    def forward(self, images):
        order = -torch.cdist(images.mean((2, 3)), self.centres)
        return order.roll(self.shift, dims=1)


def test_the_metric_counts_what_is_right(folders: Path, cifar: Path):
    found = task("images", folders, size=32, patch=8)
    assert found.evaluate(Colours(3), test=True) == {"accuracy": 1.0}
    assert found.evaluate(Colours(3, shift=1), test=False) == {"accuracy": 0.0}
    five = task("cifar10", cifar, validation=4)
    padded = nn.Sequential(Colours(6), nn.ConstantPad1d((0, 4), -1e9))
    assert five.evaluate(padded, test=True) == {"accuracy": 1.0, "top5_accuracy": 1.0}
    wrong = nn.Sequential(Colours(6), nn.ConstantPad1d((0, 4), 1e9))
    assert five.evaluate(wrong, test=True) == {"accuracy": 0.0, "top5_accuracy": 1.0}


def test_digits_come_with_scikit_learn():
    digits = task("digits")
    assert "1,437 training and 360 test images of 10 classes at 8 x 8 pixels" in digits.data_note
    assert digits.grid == (4, 4)
    assert digits.length == 16
    images, labels = digits.batch(64, seed=0, step=0)
    assert images.shape == (64, 3, 8, 8)
    assert labels.dtype == torch.int64
    assert dataclasses.asdict(tasks.data_options("digits")())["mixup"] == 0
