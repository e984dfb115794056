"""FLASH: mixed chunk attention (Hua et al., ICML 2022, https://arxiv.org/abs/2202.10447, section 3, equations 5 to 8).

Shapes: B batch, N length, D dim, E = expand * D inner width, S head_dim, G chunks of C tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mixers.attention.gated import GatedProjections, relative_bias
from mixers.contract import Mixer, State, require_causal
from mixers.ops.linear_attention import chunk_states, chunks
from mixers.ops.precision import products, wide, without_autocast
from mixers.ops.squared_relu import bias_matrix, squared_relu_attention


class _MixedChunkAttention(Mixer):
    """Squared ReLU attention inside chunks plus linear attention; a subclass says what divides the latter.

    Decodes with a constant state: the sum over complete chunks, and keys and values of the last C tokens.
    """

    def __init__(self, dim: int, *, causal: bool, chunk: int, expand: float, head_dim: int):
        super().__init__()
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        self.causal, self.chunk = causal, chunk
        self.projections = GatedProjections(dim, expand=expand, head_dim=head_dim, heads=4)
        self.bias = relative_bias(chunk, head_dim, causal=causal)

    def past_divisor(self, complete: int) -> int:
        """What divides the sum over the chunks before, `complete` of them."""
        raise NotImplementedError

    def whole_divisor(self, real: Tensor) -> Tensor | int:
        """What divides the sum over all tokens, of which `real` (B) are no pads."""
        raise NotImplementedError

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        u, v, heads = self.projections(x, mask=mask)
        mixed = self._inside(heads, v)
        if not self.causal:
            mixed = mixed + self._whole(heads, v, mask)
        elif x.shape[1] > self.chunk:  # before the first chunk there is nothing
            mixed = mixed + self._past(heads, v)[0]
        return self.projections.output(u, mixed)

    def _inside(self, heads: Tensor, v: Tensor) -> Tensor:
        """The quadratic part (B, N, E), chunk by chunk (equation 5)."""
        q, k = chunks(heads[:2], self.chunk)  # (B, G, C, S); the zeros at the end have zero values
        bias = bias_matrix(self.bias, self.chunk, causal=self.causal)
        y = squared_relu_attention(q, k, chunks(v[None], self.chunk)[0], bias, self.chunk, causal=self.causal)
        return y.flatten(1, 2)[:, : v.shape[1]]

    def _past(self, heads: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The linear part (B, N, E) over the chunks before (equation 8), and the sums (B, G + 1, S, E) before each."""
        with without_autocast(v):
            q, k = chunks(heads[2:].to(wide(v)), self.chunk)[:, :, None]  # (B, 1, G, C, S)
            values = chunks(v.to(products(v))[:, None], self.chunk)
            sums = chunk_states(k, values, k.new_zeros(len(v), 1, k.shape[-1], v.shape[-1]))
            divisors = k.new_tensor([self.past_divisor(complete) for complete in range(k.shape[2])])
            y = q.to(values.dtype) @ (sums[:, :, :-1] / divisors[:, None, None]).to(values.dtype)
        return y[:, 0].flatten(1, 2)[:, : v.shape[1]].to(v.dtype), sums[:, 0]

    def _whole(self, heads: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The linear part (B, N, E) over all tokens (equation 7)."""
        real = torch.full((1,), v.shape[1], device=v.device) if mask is None else mask.sum(1)
        with without_autocast(v):
            q, k = heads[2:].to(products(v))
            sums = k.transpose(-1, -2) @ v.to(k.dtype) / self.whole_divisor(real[:, None, None])
            return (q @ sums.to(k.dtype)).to(v.dtype)

    def init_state(self, batch_size: int) -> State:
        require_causal(self, self.causal)
        inner, _, head_dim = self.projections.widths
        weight = self.projections.out.weight
        return {
            "sums": weight.new_zeros(batch_size, head_dim, inner, dtype=wide(weight)),
            "keys": weight.new_zeros(batch_size, self.chunk, head_dim),
            "linear_keys": weight.new_zeros(batch_size, self.chunk, head_dim),
            "values": weight.new_zeros(batch_size, self.chunk, inner),
            "tokens": 0,
        }

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        require_causal(self, self.causal)
        length = x.shape[1]
        if not length:
            return x, self.init_state(len(x))
        u, v, heads = self.projections(x)
        across, sums = self._past(heads, v)
        last = (0, 0, self.chunk - length, 0)  # the last C tokens, zeros before the first
        state = {
            "sums": sums[:, length // self.chunk].clone(),
            "keys": F.pad(heads[1], last),
            "linear_keys": F.pad(heads[3], last),
            "values": F.pad(v, last),
            "tokens": length,
        }
        return self.projections.output(u, self._inside(heads, v) + across), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        complete, place = divmod(state["tokens"], self.chunk)
        u, v, (q, k, linear_q, linear_k) = self.projections(x[:, None], start=state["tokens"])
        newest = {"keys": k, "linear_keys": linear_k, "values": v}
        state = {**state, **{name: torch.cat([state[name][:, 1:].to(v.dtype), newest[name]], dim=1) for name in newest}}
        keys, values = (state[name][:, self.chunk - 1 - place :] for name in ("keys", "values"))  # this chunk's
        inside = squared_relu_attention(q, keys, values, self.bias(0, place + 1).flip(0), self.chunk)
        sums = state["sums"]
        with without_autocast(x):
            across = linear_q.to(sums.dtype) @ (sums / self.past_divisor(complete))
            if place == self.chunk - 1:
                sums = sums + state["linear_keys"].to(sums.dtype).transpose(-1, -2) @ state["values"].to(sums.dtype)
        y = self.projections.output(u, inside + across.to(v.dtype))[:, 0]
        return y, {**state, "sums": sums, "tokens": state["tokens"] + 1}


class MixedChunkAttention(_MixedChunkAttention):
    """y = W_o (u * (quadratic inside the chunk + linear)): the linear part is a mean over the tokens that it sees.

    Those are the tokens of earlier chunks when causal, and all tokens when bidirectional.
    """

    def __init__(self, dim: int, *, causal: bool, chunk: int = 256, expand: float = 2.0, head_dim: int = 128):
        super().__init__(dim, causal=causal, chunk=chunk, expand=expand, head_dim=head_dim)

    def past_divisor(self, complete: int) -> int:
        return self.chunk * max(complete, 1)

    def whole_divisor(self, real: Tensor) -> Tensor:
        return real.clamp_min(1)


class SummedMixedChunkAttention(_MixedChunkAttention):
    """MixedChunkAttention whose linear part is the sum over the tokens that it sees, over C whatever their number.

    The form of the TNN paper's comparison (fairseq-evo, flash_linear_attention.py). Linear layers start as torch's do.
    """

    def __init__(self, dim: int, *, causal: bool, chunk: int = 64, expand: float = 2.0, head_dim: int = 128):
        super().__init__(dim, causal=causal, chunk=chunk, expand=expand, head_dim=head_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in (self.projections.hidden, self.projections.out):
            linear.reset_parameters()

    def past_divisor(self, complete: int) -> int:
        return self.chunk

    def whole_divisor(self, real: Tensor) -> int:
        return self.chunk
