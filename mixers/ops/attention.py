"""Softmax attention: O = softmax(Q K^T / sqrt(K) + bias) V (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

Shapes: B batch, H heads, N queries, M keys, K width of a head.
"""

import ctypes
import functools
import importlib.util
import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.ops.precision import wide

_log = logging.getLogger(__name__)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """q (B, H, N, K), k and v (B, H, M, K) -> (B, H, N, K).

    causal: query i sees keys 0 .. i, and then N = M. bias: (H, N, M), added to the scores. mask: (B, M), True at the
    keys that may be seen; a query that sees none returns zeros. dropout: the chance that a weight is dropped.
    backend: "dense" (the definition), "sdpa", "xformers" (CUDA, half precision, neither bias nor mask), or "auto".
    Raises ValueError where the backend named cannot run.
    """
    chosen = attention_backend(backend, q, plain=bias is None and mask is None)
    if chosen == "xformers":
        return _xformers(q, k, v, causal, dropout)
    if bias is None and mask is None and chosen == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    scores = _score_bias(q, k, causal, bias, mask)
    if chosen == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=scores, dropout_p=dropout)
    return _dense(q, k, v, scores, dropout)


def attention_backend(backend: str, q: Tensor, *, plain: bool) -> str:
    """The backend that `backend` stands for: chosen by device, dtype and whether there is neither bias nor mask."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    if backend == "auto":
        return "xformers" if q.is_cuda and half and plain and xformers_works() else "sdpa"
    require_backend(backend)
    if backend == "xformers" and not (q.is_cuda and half and plain):
        raise ValueError("the xformers backend needs CUDA, float16 or bfloat16, and neither bias nor mask; use 'sdpa'")
    if backend == "xformers" and not xformers_works():
        raise ValueError("xformers does not run beside this torch; use backend='sdpa'")
    return backend


def require_backend(backend: str) -> None:
    """Raise ValueError for a backend that does not exist."""
    if backend not in ("auto", "dense", "sdpa", "xformers"):
        raise ValueError(f"unknown attention backend {backend!r}: one of auto, dense, sdpa, xformers")


def _score_bias(q: Tensor, k: Tensor, causal: bool, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """What is added to the scores, (B or 1, H or 1, N, M), -inf where a key may not be seen."""
    rows, columns = q.shape[-2], k.shape[-2]
    scores = q.new_zeros(1, 1, rows, columns) if bias is None else bias.to(q.dtype)[None]
    if causal:
        future = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    return scores


def _dense(q: Tensor, k: Tensor, v: Tensor, scores: Tensor, dropout: float) -> Tensor:
    dtype = wide(q, k, v)
    logits = q.to(dtype) @ k.to(dtype).transpose(-1, -2) * q.shape[-1] ** -0.5 + scores.to(dtype)
    unseen = torch.isneginf(logits)
    weights = torch.softmax(logits.masked_fill(unseen, torch.finfo(dtype).min), dim=-1).masked_fill(unseen, 0)
    return (F.dropout(weights, dropout) @ v.to(dtype)).to(v.dtype)


@torch.compiler.disable()
def _xformers(q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    heads_last = [tensor.transpose(1, 2) for tensor in (q, k, v)]  # (B, N, H, K)
    mask = LowerTriangularMask() if causal else None
    return memory_efficient_attention(*heads_last, attn_bias=mask, p=dropout).transpose(1, 2)


@torch.compiler.assume_constant_result
@functools.cache
def xformers_works() -> bool:
    """Whether a real call of xformers runs on this GPU with this torch. Its own list of operators does not tell."""
    try:
        _load_cuda_runtime_12()
        probe = torch.ones(1, 16, 1, 16, dtype=torch.float16, device="cuda").transpose(1, 2)
        _xformers(probe, probe, probe, causal=True, dropout=0.0)
    except (ImportError, OSError, RuntimeError, NotImplementedError) as error:
        _log.warning("xformers does not run here (%s); attention uses SDPA", str(error).splitlines()[0])
        return False
    return True


def _load_cuda_runtime_12() -> None:
    """Load libcudart.so.12 from nvidia-cuda-runtime-cu12: the xformers wheel links it, torch for CUDA 13 has it not."""
    package = importlib.util.find_spec("nvidia.cuda_runtime")
    for folder in package.submodule_search_locations or [] if package else []:
        library = Path(folder) / "lib" / "libcudart.so.12"
        if library.exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
