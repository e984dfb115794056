"""Blocks of queries and the keys around them.

Shapes: B batch, H heads, N length, K width of a head, W window, G = ceil(N / W) blocks.
"""

import torch.nn.functional as F
from torch import Tensor


def blocks(x: Tensor, window: int) -> Tensor:
    """(B, H, N, K) -> (B, H, G, W, K), with zeros at the end."""
    missing = -x.shape[2] % window
    return (F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(2, (-1, window))


def around(x: Tensor, window: int, *, before: int, after: int) -> Tensor:
    """(B, H, N, K) -> (B, H, G, before + W + after, K): each block and its neighbours, with zeros beyond the ends."""
    padded = F.pad(x, (0, 0, before, after + -x.shape[2] % window))
    return padded.unfold(2, before + window + after, window).transpose(-1, -2)


def along_band(x: Tensor) -> Tensor:
    """Entries for lags W-1 .. 0 (..., W, W) moved to the places of their keys in `around(before=W)`: (..., W, 2W).

    Query p of a block and the key of lag t meet at [p, p + W - t]; other places get zeros.
    """
    window = x.shape[-1]
    skewed = F.pad(x, (1, window)).flatten(-2)  # cut into rows one shorter, each row starts one place later
    return skewed[..., :-window].unflatten(-1, (window, 2 * window))
