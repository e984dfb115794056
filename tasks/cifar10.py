"""CIFAR-10: classify colour images of 32 x 32 pixels into ten classes (Krizhevsky, 2009)."""

from dataclasses import dataclass
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
    for split in (images.train, images.test):
        width, height = split.decode(0).size
        if (width, height) != (SIDE, SIDE):
            raise ValueError(
                f"{split.place(0)} has {width} x {height} pixels, and CIFAR-10's images have {SIDE} x {SIDE}; "
                "use task=images for other images"
            )
    return ImageClassification(images, data)
