"""Channel mixers, norms, position embeddings and poolings: what stands around a token mixer.

Shapes: B batch, N length, D dim.
"""

import math

import torch
from torch import Tensor, nn

from mixers.ops.gate import silu_gate_halves


class NoChannel(nn.Module):
    """In place of a channel mixer: a branch that adds nothing."""

    def __init__(self, dim: int, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class GatedLinearUnit(nn.Module):
    """W3 (SiLU(W1 x) * W2 x), of inner width `width` (Shazeer, 2020, arXiv 2002.05202).

    It is timm's GluMlp, parameters included, with the gate in one pass over memory on a GPU.
    """

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * width)  # W1 and W2
        self.fc2 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(silu_gate_halves(self.fc1(x)))


def ffn(dim: int, width: int) -> nn.Module:
    """Feed-forward network, W2 GELU(W1 x), of inner width `width`."""
    from timm.layers import Mlp

    return Mlp(dim, hidden_features=width, act_layer=nn.GELU)


CHANNELS = {"glu": GatedLinearUnit, "ffn": ffn, "none": NoChannel}


def rms_norm(dim: int) -> nn.Module:
    """x / rms(x), without parameters: TNN's simple RMS norm."""
    return nn.RMSNorm(dim, eps=1e-8, elementwise_affine=False)


class ScaleNorm(nn.Module):
    """g x / |x| with one learned number g, sqrt(D) at first (Nguyen and Salazar, 2019, arXiv 1910.05895)."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.sqrt(dim)))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * nn.functional.normalize(x, dim=-1, eps=1e-8)


class BatchNorm(nn.Module):
    """Batch norm of each channel over all real tokens of a batch; pads come out as zeros.

    In training every token meets all others of its batch, so it cannot stand in a causal model.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (..., D), mask (...). Raises ValueError in training for a batch of one real token."""
        if mask is None:
            return self.norm(x.reshape(-1, x.shape[-1])).view_as(x)
        normalised = self.norm(x[mask])
        return torch.zeros_like(x, dtype=normalised.dtype).masked_scatter(mask[..., None], normalised)


NORMS = {"rms": rms_norm, "layer": nn.LayerNorm, "scale": ScaleNorm, "batch": BatchNorm}


def normalise(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """norm(x); a batch norm needs to know which tokens are real."""
    return norm(x, mask) if isinstance(norm, BatchNorm) else norm(x)


class NoPosition(nn.Module):
    """No absolute position."""

    def __init__(self, dim: int, length: int):
        super().__init__()

    def forward(self, x: Tensor, start: int) -> Tensor:
        return x


class SinusoidalPosition(nn.Module):
    """x plus sines and cosines of position / 10000^(2i / D) (Vaswani et al., 2017, section 3.5), for any N."""

    def __init__(self, dim: int, length: int):
        super().__init__()

    def forward(self, x: Tensor, start: int) -> Tensor:
        length, dim = x.shape[1:]
        position = torch.arange(start, start + length, device=x.device, dtype=torch.float32)
        rate = torch.exp(torch.arange(0, dim, 2, device=x.device) * (-math.log(10000.0) / dim))
        angle = position[:, None] * rate
        return x + torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim].to(x.dtype)


class LearnedPosition(nn.Module):
    """x plus one learned vector a position, for N up to `length`."""

    def __init__(self, dim: int, length: int):
        from timm.layers import trunc_normal_

        super().__init__()
        self.embedding = nn.Parameter(torch.empty(length, dim))
        trunc_normal_(self.embedding, std=0.02)

    def forward(self, x: Tensor, start: int) -> Tensor:
        end, longest = start + x.shape[1], len(self.embedding)
        if end > longest:
            raise ValueError(f"learned positions end at {longest}, the input at {end}")
        return x + self.embedding[start:end].to(x.dtype)


POSITIONS = {"none": NoPosition, "sinusoidal": SinusoidalPosition, "learned": LearnedPosition}


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens."""
    return _real(hidden, mask).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def padded_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The sum over real tokens by the length with the pads, as Skyformer's code has it."""
    return _real(hidden, mask).mean(1)


def first(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first token."""
    return hidden[:, 0]


def last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last real token."""
    place = (mask.sum(1) - 1).clamp_min(0)
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _real(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(~mask[..., None], 0)


POOLINGS = {"mean": mean, "padded_mean": padded_mean, "first": first, "last": last}
"""(B, N, D) and the mask of right pads (B, N) -> (B, D)."""
