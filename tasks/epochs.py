"""Which examples a batch holds: each once an epoch, every epoch in an order of its own."""

from functools import lru_cache

import numpy as np

from backbones.seeding import derive


def epoch_rows(count: int, size: int, *, seed: int, step: int) -> np.ndarray:
    """The examples (size,) of batch `step` out of `count`; equal arguments give equal rows."""
    places = np.arange(step * size, (step + 1) * size)
    epochs, inside = places // count, places % count
    return np.concatenate([_order(count, seed, int(epoch))[inside[epochs == epoch]] for epoch in np.unique(epochs)])


@lru_cache(maxsize=2)  # a batch seldom reaches over two epochs, and an order of a large data set takes megabytes
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng(derive(seed, f"epoch.{epoch}")).permutation(count)
