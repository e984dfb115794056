"""Each training example once an epoch, every epoch in an order of its own."""

from functools import lru_cache

import numpy as np

from backbones.seeding import derive


def rows(count: int, size: int, *, seed: int, step: int) -> np.ndarray:
    """The numbers, below `count`, of the `size` examples of a step."""
    places = np.arange(step * size, (step + 1) * size)
    return np.array([_order(count, seed, int(place // count))[place % count] for place in places])


@lru_cache(maxsize=4)  # the epochs that a batch meets
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng(derive(seed, f"epoch.{epoch}")).permutation(count)
