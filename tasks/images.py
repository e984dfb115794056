"""Classify your own images, or Tiny-ImageNet: files in a folder for each class, or parquet files as on the hub."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.image_options import ImageOptions

if TYPE_CHECKING:
    from tasks.image_classification import ImageClassification


@dataclass
class Data(ImageOptions):
    """Options of the data."""


def load(data: Data) -> "ImageClassification":
    """The task: {train,val}/<class>/ under data.path=, Tiny-ImageNet's layout, or parquet files with image and label.

    Raises ValueError where the data cannot be had.
    """
    from tasks.image_classification import ImageClassification
    from tasks.image_source import read

    return ImageClassification(read(data.path, None, "images"), data)
