"""Handwritten digits of 8 x 8 pixels, which scikit-learn carries: 1,797 of them (UCI, Alpaydin and Kaynak, 1998)."""

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tasks.image_options import ImageOptions

if TYPE_CHECKING:
    from tasks.image_classification import ImageClassification
    from tasks.image_source import Images

TEST = 360
SIDE = 8  # pixels
WHITE = 16  # the largest value of a pixel


@dataclass
class Data(ImageOptions):
    """Options of the data; nothing of it is augmented."""

    size: int = 8
    patch: int = 2
    validation: int = 180
    augment: str = ""
    smallest_crop: float = 1.0
    centre: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


def load(data: Data) -> "ImageClassification":
    """The task.

    Raises ValueError where data.path= is given: the digits come with scikit-learn.
    """
    from tasks.image_classification import ImageClassification

    if data.path:
        raise ValueError(f"task=digits reads scikit-learn's digits, not data.path={data.path}; use task=images")
    return ImageClassification(_images(), data)


@cache
def _images() -> "Images":
    import datasets
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    from tasks.image_source import LABEL, assemble

    pixels, labels = (np.asarray(each) for each in load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(labels))
    features = datasets.Features({"image": datasets.Image(decode=False), LABEL: datasets.ClassLabel(num_classes=10)})

    def encoded(image: np.ndarray) -> dict:
        file = io.BytesIO()
        Image.fromarray((image.reshape(SIDE, SIDE) * 255 / WHITE).round().astype(np.uint8)).save(file, format="PNG")
        return {"bytes": file.getvalue(), "path": None}

    def table(rows: np.ndarray) -> datasets.Dataset:
        content = {"image": [encoded(image) for image in pixels[rows]], LABEL: labels[rows].tolist()}
        return datasets.Dataset.from_dict(content, features=features)

    return assemble({"train": table(order[TEST:]), "test": table(order[:TEST])}, "scikit-learn's digits")
