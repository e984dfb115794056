"""The Synthesizer: attention whose scores are no products of queries and keys.

Tay et al., ICML 2021, https://arxiv.org/abs/2005.00743, section 3.
Shapes: B batch, N length, D dim, H heads, K = D / H, L the largest N, M positions that may be seen.
"""

import torch
from torch import Tensor, nn

from mixers.contract import Mixer, State, require_causal, split_heads
from mixers.mlp.length import require_length, require_within
from mixers.mlp.scores import (
    DenseScores,
    FactorisedDenseScores,
    FactorisedRandomScores,
    NormalRandomScores,
    RandomScores,
)
from mixers.ops.precision import wide


def weights(scores: Tensor, *, start: int, causal: bool, mask: Tensor | None = None) -> Tensor:
    """softmax over the last dimension of scores (B or 1, H, N, M), row i standing at position start + i.

    Positions after a row's own have no weight when causal, nor those where mask (B, M) is False; a row that sees
    nothing has none at all.
    """
    scores = scores.to(wide(scores))
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(start + 1)
        scores = scores.masked_fill(future, -torch.inf)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    blind = scores.isneginf().all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(blind, 0), dim=-1).masked_fill(blind, 0)


class _Synthesizer(Mixer):
    """y = W_out softmax(scores) W_value x, head by head, and its cache of values.

    Not projected: W_out and W_value are the identity. N < L reads the scores of the first N positions alone.
    """

    def __init__(
        self, dim: int, scores: nn.Module, *, causal: bool, length: int, heads: int = 1, projected: bool = True
    ):
        super().__init__()
        self.causal, self.length, self.heads = causal, require_length(length), heads
        self.head_dim = split_heads(dim, heads)
        self.scores = scores
        self.value = nn.Linear(dim, dim, bias=False) if projected else nn.Identity()
        self.out = nn.Linear(dim, dim) if projected else nn.Identity()

    def _values(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, K)."""
        return self.value(x).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def _mix(self, x: Tensor, values: Tensor, start: int, mask: Tensor | None = None) -> Tensor:
        """y (B, N, D) of tokens x at positions start, start + 1, …, from the values (B, H, start + N, K) of all."""
        require_within(values.shape[2], self.length)
        if mask is not None:
            values = values.masked_fill(~mask[:, None, :, None], 0)
        mixing = weights(self.scores(x, start), start=start, causal=self.causal, mask=mask)
        mixed = torch.einsum("bhij,bhjk->bihk", mixing.to(values.dtype), values)
        return self.out(mixed.flatten(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._mix(x, self._values(x), 0, mask)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        parameter = next(self.parameters())
        return {"values": parameter.new_zeros(batch_size, self.heads, 0, self.head_dim)}

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        values = self._values(x).clone()  # the caller may use the memory of x anew
        return self._mix(x, values, 0), {"values": values}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        token = x[:, None]
        new = self._values(token)
        values = torch.cat([state["values"].to(new.dtype), new], dim=2)
        return self._mix(token, values, values.shape[2] - 1)[:, 0], {"values": values}


class DenseSynthesizer(_Synthesizer):
    """Each token's scores of all positions are a two-layer perceptron of that token."""

    def __init__(self, dim: int, *, causal: bool, length: int, heads: int = 4):
        scores = DenseScores(dim, require_length(length), heads)
        super().__init__(dim, scores, causal=causal, length=length, heads=heads)


class FactorisedDenseSynthesizer(_Synthesizer):
    """The dense Synthesizer whose scores are products of two shorter vectors: of the block, and of the place in it."""

    def __init__(self, dim: int, *, causal: bool, length: int, heads: int = 4, blocks: int = 8):
        scores = FactorisedDenseScores(dim, require_length(length), heads, blocks)
        super().__init__(dim, scores, causal=causal, length=length, heads=heads)


class RandomSynthesizer(_Synthesizer):
    """The scores are a learned matrix, the same for all sequences."""

    def __init__(self, dim: int, *, causal: bool, length: int, heads: int = 4):
        split_heads(dim, heads)
        scores = RandomScores(require_length(length), heads)
        super().__init__(dim, scores, causal=causal, length=length, heads=heads)


class FactorisedRandomSynthesizer(_Synthesizer):
    """The random Synthesizer with a matrix of rank `rank` (8 in the paper)."""

    def __init__(self, dim: int, *, causal: bool, length: int, heads: int = 4, rank: int = 8):
        split_heads(dim, heads)
        scores = FactorisedRandomScores(require_length(length), heads, rank)
        super().__init__(dim, scores, causal=causal, length=length, heads=heads)


class UnprojectedDenseSynthesizer(_Synthesizer):
    """The dense Synthesizer as the TNN paper compares it: one head, y = softmax(scores) x.

    Beyond L tokens the authors' code gives zeros; here it is refused.
    """

    def __init__(self, dim: int, *, causal: bool, length: int):
        scores = DenseScores(dim, require_length(length), heads=1)
        super().__init__(dim, scores, causal=causal, length=length, projected=False)


class UnprojectedRandomSynthesizer(_Synthesizer):
    """The random Synthesizer as the TNN paper compares it: one head, y = softmax(R) x, R standard normal at first.

    Beyond L tokens the authors' code gives zeros; here it is refused.
    """

    def __init__(self, dim: int, *, causal: bool, length: int):
        scores = NormalRandomScores(require_length(length), heads=1)
        super().__init__(dim, scores, causal=causal, length=length, projected=False)
