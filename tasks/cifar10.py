"""CIFAR-10: classify colour images of 32 x 32 pixels into ten classes (Krizhevsky, 2009)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks.image_options import ImageOptions

if TYPE_CHECKING:
    from tasks.image_classification import ImageClassification

REPOSITORY = "uoft-cs/cifar10"
SIDE = 32  # pixels


@dataclass
class Data(ImageOptions):
    """Options of the data."""

    size: int = 32
    patch: int = 4
    validation: int = 5000
    smallest_crop: float = 0.5
    centre: float = 1.0


def load(data: Data) -> "ImageClassification":
    """The task: the hub's files, those files under data.path=, or {train,test}/<class>/ there.

    Raises ValueError where the data cannot be had, or hold images of other sizes than CIFAR-10's.
    """
    from tasks.image_classification import ImageClassification
    from tasks.image_source import read

    images = read(data.path, REPOSITORY, "cifar10", classes=10)
    train, test = (replace(split, side=SIDE) for split in (images.train, images.test))
    for split in (train, test):
        split.decode(0)  # other data are refused before training
    return ImageClassification(replace(images, train=train, test=test), data)
