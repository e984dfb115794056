"""Grey images read pixel by pixel, row after row, as Long Range Arena does."""

import io
import math

from tasks.classification import Classification
from tasks.examples import Examples


class Pixels(Classification):
    """Classify square grey images; their pixels are 256 tokens, or, with `numbers`, numbers through a linear layer."""

    def __init__(
        self, train: Examples, validation: Examples, test: Examples, *, classes: int, numbers: bool, data_note: str
    ):
        side = math.isqrt(train.length)
        self.grid = (side, side)
        vocabulary = None if numbers else 256
        super().__init__(train, validation, test, vocabulary=vocabulary, classes=classes, data_note=data_note)


def grey(content: bytes, size: int, place: str) -> bytes:
    """The grey values of an image file of size x size pixels.

    Raises ValueError for content that is no such image.
    """
    from PIL import Image

    if not content:
        raise ValueError(f"{place} is empty; download it anew")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            values = image.convert("L").tobytes()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{place} is no whole image; download it anew") from error
    if (width, height) != (size, size):
        raise ValueError(f"{place} has {width} x {height} pixels; this task is for {size} x {size}")
    return values
