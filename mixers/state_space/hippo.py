"""HiPPO-LegS, the matrix that state spaces start from (Gu et al., NeurIPS 2020, https://arxiv.org/abs/2008.07669)."""

import functools

import torch
from torch import Tensor


@functools.cache
def legs(pairs: int) -> tuple[Tensor, Tensor]:
    """The frequencies and the low-rank part P (pairs,), both positive, float64, of HiPPO-LegS of size 2 * pairs.

    A = V (-1/2 + i frequencies) V* - P P^T with V unitary and P_n = sqrt(n + 1/2) (S4, https://arxiv.org/abs/2111.00396,
    theorem 1): the conjugate pairs with positive frequency, largest first, V turned so that V* P is real.
    The input B is sqrt(2) P.
    """
    with torch.device("cpu"):  # else what is kept lies where the first caller builds its model, perhaps nowhere (meta)
        size = 2 * pairs
        rank_one = (torch.arange(size, dtype=torch.float64) + 0.5).sqrt()
        lower = -torch.outer(rank_one, rank_one).tril(
            -1
        )  # half of A below its diagonal: A + P P^T + 1/2 is this - its T
        frequency, vectors = torch.linalg.eigh(-1j * (lower - lower.T))
        frequency, vectors = frequency.flip(0)[:pairs], vectors.flip(1)[:, :pairs]
        return frequency, (vectors.mH @ rank_one.to(vectors.dtype)).abs()
