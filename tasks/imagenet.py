"""ImageNet-1k: classify photographs into 1,000 classes (Russakovsky et al., 2015, https://arxiv.org/abs/1409.0575)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.image_options import ImageOptions

if TYPE_CHECKING:
    from tasks.image_classification import ImageClassification

REPOSITORY = "ILSVRC/imagenet-1k"


@dataclass
class Data(ImageOptions):
    """Options of the data; the hub gives ImageNet to those who accepted its terms and are logged in."""


def load(data: Data) -> "ImageClassification":
    """The task: the hub's files, those files under data.path=, or {train,val}/<class>/*.JPEG there.

    Raises ValueError where the data cannot be had.
    """
    from tasks.image_classification import ImageClassification
    from tasks.image_source import read

    return ImageClassification(read(data.path, REPOSITORY, "imagenet"), data)
