"""A causal language model around a stack.

Shapes: B batch, N length, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from backbones.cross_entropy import linear_cross_entropy
from backbones.embedding import TokenEmbedding
from backbones.stack import Stack


class CausalLM(nn.Module):
    """tokens (B, N) -> logits (B, N, V) of the next token; the head is the embedding, transposed.

    Raises ValueError for a stack with batch norms.
    """

    def __init__(self, stack: Stack, *, vocabulary: int, seed: int = 0):
        super().__init__()
        stack.require_causal()
        self.embedding = TokenEmbedding(vocabulary, stack.dim, std=stack.embedding_std, seed=seed)
        self.stack = stack

    def _head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embedding.table.weight.T

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits, or the mean cross-entropy in nats of targets (B, N), for which not all logits are held at once."""
        hidden = self.stack(self.embedding(tokens))
        if targets is None:
            return self._head(hidden)
        return linear_cross_entropy(hidden, self.embedding.table.weight, targets)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """forward(tokens), and the state after them."""
        hidden, state = self.stack.prefill(self.embedding(tokens))
        return self._head(hidden), state

    def step(self, token: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """token (B,) and the state before it -> logits (B, V) and the state after it; consumes the state."""
        hidden, state = self.stack.step(self.embedding(token), state)
        return self._head(hidden), state

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: list[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue prompt (N,), N >= 1, by up to `new_tokens` tokens; returns prompt and continuation (M,).

        temperature 0 takes the likeliest token; top_k keeps that many, top_p the fewest that hold that probability.
        Ends early once the sequence `stop` has been generated. Raises ValueError for values out of range.
        """
        if prompt.numel() == 0:
            raise ValueError("the prompt is empty; give at least one token")
        if new_tokens < 0:
            raise ValueError(f"new_tokens={new_tokens} must be at least 0")
        tokens = prompt.tolist()
        logits, state = self.prefill(prompt[None])
        logits = logits[:, -1]
        for _ in range(new_tokens):
            token = sample(logits[0], temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
            tokens.append(int(token))
            if stop and tokens[len(prompt) :][-len(stop) :] == stop:
                break
            logits, state = self.step(token[None], state)
        return torch.tensor(tokens, device=prompt.device)


def sample(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one token from logits (V,), narrowed as `CausalLM.generate` says."""
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must be at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]")
    if temperature == 0:
        return logits.argmax()
    ordered, tokens = (logits.float() / temperature).sort(descending=True)
    probability = ordered.softmax(-1)
    if top_k is not None:
        probability[top_k:] = 0
    if top_p is not None:
        before = probability.cumsum(-1) - probability  # the mass of likelier tokens; the likeliest has none and stays
        probability[before >= top_p * probability.sum()] = 0
    return tokens[torch.multinomial(probability, 1, generator=generator)[0]]
