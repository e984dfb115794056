"""Products of queries with a running sum of key-value pairs, in linear time.

Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236, section 3.
Shapes: B batch, H heads, N length, K width of keys, V width of values, C chunk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_product_reference(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, a loop: S += k_i v_i^T, y_i = S^T q_i. Arguments and returns as `causal_product`."""
    outputs = []
    for position in range(q.shape[2]):
        state = state + k[:, :, position, :, None] * v[:, :, position, None]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, :, position], state))
    return torch.stack(outputs, dim=2), state


def causal_product(q: Tensor, k: Tensor, v: Tensor, state: Tensor, *, chunk: int) -> tuple[Tensor, Tensor]:
    """y_i = (state + sum over j <= i of k_j v_j^T)^T q_i, and the state after the last token, in O(N (C + K) V).

    q and k (B, H, N, K), v (B, H, N, V), state (B, H, K, V): the sum over the tokens before. All of one dtype, at
    least float32. Inside a chunk the product is a masked matrix; between chunks it is the state.
    """
    length = q.shape[2]
    q, k, v = (chunks(part, chunk) for part in (q, k, v))
    states = chunk_states(k, v, state)
    inside = (q @ k.transpose(-1, -2)).tril() @ v
    y = inside + q @ states[:, :, :-1]
    return y.flatten(2, 3)[:, :, :length], states[:, :, -1].clone()  # a view would keep the states of all chunks


def chunk_states(k: Tensor, v: Tensor, state: Tensor) -> Tensor:
    """The state before each chunk, and that after the last: k (B, H, chunks, C, K) -> (B, H, chunks + 1, K, V)."""
    return torch.cat([state[:, :, None], k.transpose(-1, -2) @ v], dim=2).cumsum(2)


def chunks(x: Tensor, chunk: int) -> Tensor:
    """(B, H, N, K) -> (B, H, chunks, C, K), with zeros at the end, which add nothing to sums."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % chunk)).unflatten(2, (-1, chunk))
