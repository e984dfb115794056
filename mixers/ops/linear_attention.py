"""Products of queries with a running sum of key-value pairs that may decay, in linear time.

Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236, section 3; with a decay, Sun et al., 2023,
https://arxiv.org/abs/2307.08621, section 2.
Shapes: B batch, H heads, N length, K width of keys, V width of values, C chunk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def whole_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """y_i = (sum over all j of k_j v_j^T)^T q_i: (B, H, N, V), in O(N K V), products and results in the dtype of v."""
    return q.to(v.dtype) @ (k.to(v.dtype).transpose(-1, -2) @ v)


def causal_step(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token, N = 1: S = exp(log_decay) S + k v^T, y = S^T q. Arguments and returns as `causal_product`."""
    kept = state if log_decay is None else log_decay.exp()[..., None] * state
    state = kept + k.to(state.dtype).transpose(-1, -2) @ v.to(state.dtype)
    return q.to(state.dtype) @ state, state


def causal_product_reference(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, a loop of steps. Arguments and returns as `causal_product`."""
    outputs = [v[:, :, :0]]
    for position in range(q.shape[2]):
        here = slice(position, position + 1)
        decay = None if log_decay is None else log_decay[:, :, here]
        y, state = causal_step(q[:, :, here], k[:, :, here], v[:, :, here], state, decay)
        outputs.append(y)
    return torch.cat(outputs, dim=2), state


def causal_product(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor | None = None, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """y_i = S_i^T q_i with S_i = exp(log_decay_i) S_{i-1} + k_i v_i^T, and the last S, in O(N (C + K) V).

    q and k (B, H, N, K), v (B, H, N, V), state (B, H, K, V): S before the first token, log_decay (B, H, N), at most 0:
    None means no decay. All of one dtype, at least float32, but for v: in its dtype products are taken, on tensor cores
    where it is bfloat16; sums over chunks and y have that of the state. Inside a chunk the product is a masked matrix;
    between chunks it is the state. Decays are products of what lies between two tokens: none is divided by.
    """
    length = q.shape[2]
    if length == 1:
        return causal_step(q, k, v, state, log_decay)
    chunk = min(chunk, max(length, 1))
    q, k, v = (chunks(part, chunk) for part in (q, k, v))
    scores = (q.to(v.dtype) @ k.to(v.dtype).transpose(-1, -2)).tril()
    if log_decay is None:
        states = chunk_states(k, v, state)
    else:
        since = chunks(log_decay[..., None], chunk).cumsum(3)  # (B, H, chunks, C, 1): from the chunk's start
        later = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).triu(1)
        scores = scores * (since - since.transpose(-1, -2)).masked_fill(later, -torch.inf).exp()
        total = since[..., -1:, :]
        states = _states(state, _outer(k * (total - since).exp(), v).to(state.dtype), total.exp())
        q = q * since.exp()
    y = (scores.to(v.dtype) @ v).to(state.dtype) + q.to(v.dtype) @ states[:, :, :-1].to(v.dtype)
    return y.flatten(2, 3)[:, :, :length], states[:, :, -1].clone()  # a view would keep the states of all chunks


def _states(state: Tensor, sums: Tensor, decay: Tensor) -> Tensor:
    """The states (B, H, chunks + 1, K, V) before each chunk and after the last: S = decay S + sums."""
    states = [state]
    for added, kept in zip(sums.unbind(2), decay.unbind(2), strict=True):
        states.append(kept * states[-1] + added)
    return torch.stack(states, dim=2)


def chunk_states(k: Tensor, v: Tensor, state: Tensor) -> Tensor:
    """The state before each chunk, and that after the last: k (B, H, chunks, C, K) -> (B, H, chunks + 1, K, V)."""
    return torch.cat([state[:, :, None], _outer(k, v).to(state.dtype)], dim=2).cumsum(2)


def _outer(k: Tensor, v: Tensor) -> Tensor:
    """The sums of k v^T over the tokens of each chunk, in the dtype of v."""
    return k.to(v.dtype).transpose(-1, -2) @ v


def chunks(x: Tensor, chunk: int) -> Tensor:
    """(B, H, N, K) -> (B, H, chunks, C, K), with zeros at the end, which add nothing to sums."""
    missing = -x.shape[2] % chunk
    return (F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(2, (-1, chunk))
