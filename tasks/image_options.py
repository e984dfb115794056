"""Options of the data that all image tasks have: the size of images and how they are augmented.

The defaults are DeiT's (Touvron et al., 2021, https://arxiv.org/abs/2012.12877, table 9).
"""

from dataclasses import dataclass


@dataclass
class ImageOptions:
    """Augmentation is timm's; 0, or an empty text, leaves a part of it out."""

    path: str = ""  # a folder of the same files; empty: the hub
    size: int = 224  # pixels, height and width
    patch: int = 16  # pixels, height and width
    validation: int = 0  # training images held out to validate on; 0: validate on the test images
    loaders: int | None = None  # processes that read images ahead; null: one a core beside a GPU, none on a CPU
    augment: str = "rand-m9-mstd0.5-inc1"  # timm's auto_augment
    smallest_crop: float = 0.08  # share of the area that a training crop has at the least
    centre: float = 0.875  # share of height and width that is left of images to evaluate on
    flip: float = 0.5  # chance
    jitter: float = 0.4  # of colours, where augment is empty
    erase: float = 0.25  # chance that a rectangle is erased
    mixup: float = 0.8  # alpha
    cutmix: float = 1.0  # alpha
    smoothing: float = 0.1  # of labels


def check(options: ImageOptions) -> None:
    """Raise ValueError for options out of range."""
    for key in ("size", "patch"):
        if getattr(options, key) < 1:
            raise ValueError(f"data.{key}={getattr(options, key)} must be at least 1")
    if options.size % options.patch:
        raise ValueError(f"data.size={options.size} must be a multiple of data.patch={options.patch}")
    for key in ("validation", "loaders", "jitter", "mixup", "cutmix"):
        if (getattr(options, key) or 0) < 0:
            raise ValueError(f"data.{key}={getattr(options, key)} must be at least 0")
    for key in ("flip", "erase", "smoothing"):
        if not 0 <= getattr(options, key) <= 1:
            raise ValueError(f"data.{key}={getattr(options, key)} must lie between 0 and 1")
    for key in ("smallest_crop", "centre"):
        if not 0 < getattr(options, key) <= 1:
            raise ValueError(f"data.{key}={getattr(options, key)} must be above 0 and at most 1")
