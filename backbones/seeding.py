"""One generator a submodule, so that models which differ in one part agree in all others."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, path: str) -> int:
    """A seed for the thing called `path` under `seed`: a hash of both."""
    digest = hashlib.blake2b(f"{seed}/{path}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # torch takes 63 bits


@contextmanager
def seeded(seed: int, path: str) -> Iterator[None]:
    """Draw from the generator of `path`, and leave the global CPU generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, path))
        yield
