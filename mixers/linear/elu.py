"""Linear attention with the feature map elu(x) + 1 (Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236).

Shapes: B batch, N length, D dim, H heads, K = D / H.
"""

import torch.nn.functional as F
from torch import Tensor

from mixers.linear.kernel import KernelAttention


class LinearAttention(KernelAttention):
    """Kernel attention with phi = elu + 1 (equation 7), of queries and keys that are not scaled by 1 / sqrt(K)."""

    def __init__(self, dim: int, *, causal: bool, heads: int = 4, chunk: int = 64):
        super().__init__(dim, causal=causal, heads=heads, chunk=chunk, bias=False)

    def phi(self, x: Tensor) -> Tensor:
        return F.elu(x) + 1
