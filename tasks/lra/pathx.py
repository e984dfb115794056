"""Long Range Arena's Path-X: pathfinder in images of 128 x 128 pixels, 16,384 tokens (Tay et al., ICLR 2021)."""

from tasks.lra.pathfinder import Data, load_size
from tasks.lra.pixels import Pixels

__all__ = ["Data", "load"]


def load(data: Data) -> Pixels:
    """The task.

    Raises ValueError for files that are missing or not as released, and for options out of range.
    """
    return load_size(data, 128)
