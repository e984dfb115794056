"""Transformer-LS: a window plus dynamic projections (Zhu et al., NeurIPS 2021, https://arxiv.org/abs/2107.02192).

Shapes: B batch, N length, D dim, H heads, K = D / H, W window, C chunk, R rank, M compressed vectors.
"""

import torch
from torch import Tensor, nn

from mixers.attention.distance import Distances
from mixers.contract import Mixer, State, fill_pads, require_causal, split_heads
from mixers.ops.precision import wide
from mixers.ops.window import along_band, around, blocks


class LongShortAttention(Mixer):
    """One softmax over the keys of a window and over compressed keys P^T K, P = softmax over tokens of W x.

    Causal: the window is the last W tokens; every chunk of C tokens is compressed to R vectors, seen from the next
    chunk on; scores know distances. Bidirectional: blocks of W tokens see max(W / 2, 1) tokens on either side, and the
    sequence is compressed to `landmarks` vectors. A LayerNorm each for window and compressed vectors (section 3.3).
    As in the authors' code, what is compressed are raw keys and values when causal, normalised ones when bidirectional.
    """

    def __init__(
        self,
        dim: int,
        *,
        causal: bool,
        heads: int = 4,
        window: int = 64,
        chunk: int = 32,
        rank: int = 1,
        landmarks: int = 32,
    ):
        super().__init__()
        for name, size in (("window", window), ("chunk", chunk), ("rank", rank), ("landmarks", landmarks)):
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        self.causal, self.heads, self.window, self.chunk = causal, heads, window, chunk
        self.head_dim = split_heads(dim, heads)
        self.rank = rank if causal else landmarks
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.projection = nn.Linear(dim, heads * self.rank, bias=False)  # a bias would move all tokens alike
        self.projection.requires_grad_(not causal or chunk > 1)  # the softmax over one token is 1
        self.short_norm, self.long_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.distances = Distances(dim, heads) if causal else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal weights and zero biases, as in the authors' code."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, K)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def _project(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries (B, H, N, K), keys and values (B, N, D), and logits of the projection (B, N, H R)."""
        q = self._split(self.query(x)) * self.head_dim**-0.5
        k, v, logits = (fill_pads(linear(x), mask) for linear in (self.key, self.value, self.projection))
        return q, k, v, logits

    def _short(self, x: Tensor) -> Tensor:
        return self._split(self.short_norm(x))

    def _compress(self, k: Tensor, v: Tensor, logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, M, K), R of each `size` tokens of k and v (B, N, D); what is left over is left out."""
        count = k.shape[1] // size
        k, v, logits = (
            part[:, : count * size].reshape(len(part), count, size, self.heads, part.shape[-1] // self.heads)
            for part in (k, v, logits)
        )
        weights = logits.to(wide(logits)).softmax(dim=2).to(v.dtype)
        keys, values = (torch.einsum("bnchr,bnchk->bnrhk", weights, part).flatten(1, 2).flatten(2) for part in (k, v))
        return self._split(self.long_norm(keys)), self._split(self.long_norm(values))

    def _mix(self, short: Tensor, long: Tensor, values: Tensor, long_values: Tensor) -> Tensor:
        """The output (B, ·, D) by one softmax over both kinds of scores (B, H, …, W, keys), the lowest where unseen."""
        scores = torch.cat([long.to(wide(long)), short.to(wide(short))], dim=-1)
        weights = scores.softmax(-1).to(values.dtype)
        far, near = weights.split([long.shape[-1], short.shape[-1]], dim=-1)
        mixed = far @ long_values + near @ values
        return self.out(mixed.flatten(2, -2).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._past(*self._project(x, mask))[0] if self.causal else self._whole(x, mask)

    def _whole(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v, logits = self._project(x, mask)
        k, v = self.short_norm(k), self.short_norm(v)
        if mask is not None:
            logits = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min)
        long_keys, long_values = (part[:, :, None] for part in self._compress(k, v, logits, x.shape[1]))
        reach = max(self.window // 2, 1)
        real = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        keys, values, seen = (
            around(part, self.window, before=reach, after=reach)
            for part in (self._split(k), self._split(v), real[:, None, :, None])
        )  # (B, H, G, W + 2 reach, ·)
        q = blocks(q, self.window)
        short = hide(q @ keys.transpose(-1, -2), seen.transpose(-1, -2) == 0)
        return self._mix(short, q @ long_keys.transpose(-1, -2), values, long_values)[:, : x.shape[1]]

    def _past(self, q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> tuple[Tensor, State]:
        """The output, and the state after the last token."""
        assert self.distances is not None
        length, window = q.shape[2], self.window
        state = self._state(k, v, logits)
        place = torch.arange(length, device=q.device)
        vector = torch.arange(state["long_keys"].shape[2], device=q.device)
        distance = (place // self.chunk * self.rank - 1)[:, None] - vector  # below 0: of a chunk not yet complete
        far = q @ state["long_keys"].transpose(-1, -2) + self.distances.vectors(q, distance)
        long = blocks(hide(far, distance < 0), window)
        keys, values = (around(self._short(part), window, before=window, after=0) for part in (k, v))
        content = blocks(q + self.distances.content_bias, window) @ keys.transpose(-1, -2)
        short = content + along_band(blocks(self.distances.tokens(q, window), window))
        lag = torch.arange(window, device=q.device)[:, None] + window - torch.arange(2 * window, device=q.device)
        exists = around(q.new_ones(1, 1, length, 1), window, before=window, after=0).transpose(-1, -2) > 0
        short = hide(short, ~((lag >= 0) & (lag < window) & exists))
        y = self._mix(short, long, values, state["long_values"][:, :, None])
        return y[:, :length], state

    def _state(self, k: Tensor, v: Tensor, logits: Tensor) -> State:
        """Keys and values of the window, what is not yet compressed, and all that is."""
        long_keys, long_values = self._compress(k, v, logits, self.chunk)
        rest = k.shape[1] // self.chunk * self.chunk
        return {
            "keys": self._short(k[:, -self.window :]),
            "values": self._short(v[:, -self.window :]),
            "rest": tuple(part[:, rest:].clone() for part in (k, v, logits)),
            "long_keys": long_keys,
            "long_values": long_values,
        }

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        empty = self.out.weight.new_zeros(batch_size, 0, self.out.in_features)
        return self._state(empty, empty, self.projection.weight.new_zeros(batch_size, 0, self.projection.out_features))

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        return self._past(*self._project(x)) if x.shape[1] else (x, self.init_state(len(x)))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.distances is not None
        q, k, v, logits = self._project(x[:, None])
        keys, values = (
            torch.cat([state[name].to(q.dtype), self._short(part)], dim=2)[:, :, -self.window :]
            for name, part in (("keys", k), ("values", v))
        )
        long_keys, long_values = (state[name].to(q.dtype) for name in ("long_keys", "long_values"))
        short = (q + self.distances.content_bias) @ keys.transpose(-1, -2) + self.distances.tokens(q, keys.shape[2])
        long = q @ long_keys.transpose(-1, -2) + self.distances.newest(q, long_keys.shape[2])
        y = self._mix(short, long, values, long_values)[:, 0]
        pairs = zip(state["rest"], (k, v, logits), strict=True)
        rest = tuple(torch.cat([old.to(new.dtype), new], dim=1) for old, new in pairs)
        new_keys, new_values = self._compress(
            rest[0], rest[1], rest[2], self.chunk
        )  # none, unless this token completes a chunk
        return y, {
            "keys": keys,
            "values": values,
            "rest": tuple(part[:, new_keys.shape[2] // self.rank * self.chunk :] for part in rest),
            "long_keys": torch.cat([long_keys, new_keys], dim=2),
            "long_values": torch.cat([long_values, new_values], dim=2),
        }


def hide(scores: Tensor, unseen: Tensor) -> Tensor:
    """Scores in at least float32, the lowest number where `unseen`: a row that sees nothing stays finite."""
    if scores.dtype != wide(scores):  # what overflows is still above what is unseen
        scores = scores.clamp_min(torch.finfo(scores.dtype).min).to(wide(scores))
    return scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
