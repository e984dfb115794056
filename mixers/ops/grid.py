"""Tokens as the places of a grid, row by row.

Shapes: B batch, N <= H W tokens, H and W the grid, D dim.
"""

import torch.nn.functional as F
from torch import Tensor

from mixers.contract import fill_pads


def require_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """The grid as a tuple.

    Raises ValueError for one without places.
    """
    if min(grid) < 1:
        raise ValueError(f"grid={tuple(grid)} must have at least one row and one column")
    height, width = grid
    return height, width


def on_grid(x: Tensor, mask: Tensor | None, grid: tuple[int, int]) -> Tensor:
    """(B, N, D) -> (B, H, W, D): pads (mask False) and the places after the last token are zeros.

    Raises ValueError for more tokens than the grid has places.
    """
    height, width = grid
    if x.shape[1] > height * width:
        raise ValueError(f"N={x.shape[1]} is beyond the {height} x {width} = {height * width} places of the grid")
    x = fill_pads(x, mask)
    return F.pad(x, (0, 0, 0, height * width - x.shape[1])).unflatten(1, grid)


def off_grid(image: Tensor, length: int) -> Tensor:
    """(B, H, W, D) -> (B, N, D): the first `length` places."""
    return image.flatten(1, 2)[:, :length]
