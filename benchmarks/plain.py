"""Plain pure-PyTorch forms, written from the papers' equations, of mixers that no package holds.

The shortest road from each equation to matrix products and FFTs; S4 and the diagonal state spaces as their authors'
code does it without its CUDA kernels: by broadcasting. Shapes: B batch, N length, D dim, H heads, S state.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Core = Callable[[Tensor, Tensor, Tensor], Tensor]


class Heads(nn.Module):
    """Projections around a function of queries, keys and values (B, H, N, K)."""

    def __init__(self, dim: int, core: Core, heads: int = 4):
        super().__init__()
        self.heads, self.core = heads, core
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(self.core(q, k, v).transpose(1, 2).flatten(2))


def alibi(causal: bool, length: int, heads: int) -> Core:
    """Softmax attention with a bias of slope times distance."""
    place = torch.arange(length)
    slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
    bias = -slopes[:, None, None] * (place[:, None] - place).abs()
    bias = bias.masked_fill(place > place[:, None], -math.inf) if causal else bias
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def cosformer(causal: bool, length: int) -> Core:
    """Bidirectional: keys times values first; causal: the masked matrix, as in the TNN paper's comparison."""
    angle = math.pi / 2 / length * torch.arange(length)[:, None]

    def turned(x: Tensor) -> Tensor:
        return torch.cat([F.relu(x) * angle.cos(), F.relu(x) * angle.sin()], dim=-1)

    def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = turned(q), turned(k)
        if causal:
            weights = (q @ k.mT).tril()
            return weights @ v / weights.sum(-1, keepdim=True).clamp_min(1e-6)
        return q @ (k.mT @ v) / (q @ k.sum(2)[..., None]).clamp_min(1e-6)

    return core


class Synthesizer(nn.Module):
    """softmax of scores that `scores` makes of x, (B or 1, H, N, N), times values."""

    def __init__(self, dim: int, scores: nn.Module, causal: bool, heads: int, projected: bool):
        super().__init__()
        self.scores, self.causal, self.heads = scores, causal, heads
        self.value = nn.Linear(dim, dim, bias=False) if projected else nn.Identity()
        self.out = nn.Linear(dim, dim) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(x)
        if self.causal:
            scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1), -math.inf)
        values = self.value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.out((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))


class Dense(nn.Module):
    """Two layers give each token's scores; of `blocks`, they are products of a block's and a place's."""

    def __init__(self, dim: int, length: int, heads: int, blocks: int | None = None):
        super().__init__()
        self.sizes = (length,) if blocks is None else (blocks, length // blocks)
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, heads * size)) for size in self.sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self.layers]
        return parts[0] if len(parts) == 1 else (parts[0][..., None] * parts[1][..., None, :]).flatten(-2)


class Random(nn.Module):
    """One learned matrix a head, of full rank or a product of two."""

    def __init__(self, length: int, heads: int, rank: int | None = None):
        super().__init__()
        self.parts = nn.ParameterList(
            torch.randn(1, heads, length, rank or length) for _ in range(1 if rank is None else 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.parts[0] if len(self.parts) == 1 else self.parts[0] @ self.parts[1].mT


class Convolution(nn.Module):
    """A state space's kernel, its product with x by FFT over 2 N places, and GELU with the output layer."""

    def __init__(self, dim: int, kernel: nn.Module, causal: bool, gated: bool):
        super().__init__()
        self.kernel, self.causal, self.gated = kernel, causal, gated
        self.skip, self.out = nn.Parameter(torch.randn(dim)), nn.Linear(dim, 2 * dim if gated else dim)

    def forward(self, x: Tensor) -> Tensor:
        length, u = x.shape[1], x.mT
        k = self.kernel(length)  # (1 or 2, D, N)
        k = k[0] if self.causal else F.pad(k[0], (0, length)) + F.pad(k[1].flip(-1), (length, 0))
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * length) * torch.fft.rfft(k, 2 * length), 2 * length)[..., :length]
        y = self.out(F.gelu((y + self.skip[:, None] * u).mT))
        return F.glu(y, dim=-1) if self.gated else y


class Diagonal(nn.Module):
    """Kernels 2 Re sum of C (exp(dt A) - 1) / A exp(dt A l) by broadcasting (D, S, N); `normalised`: over the sum."""

    def __init__(self, dim: int, state: int, kernels: int, normalised: bool = False):
        super().__init__()
        self.normalised = normalised
        self.log_dt = nn.Parameter(torch.empty(dim, 1).uniform_(math.log(0.001), math.log(0.1)))
        self.log_decay = nn.Parameter(torch.full((dim, state), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(state).repeat(dim, 1))
        self.readout = nn.Parameter(torch.randn(kernels, dim, state, 2))

    def forward(self, length: int) -> Tensor:
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        rate = a * self.log_dt.exp()
        modes = (rate[..., None] * torch.arange(length)).exp()
        weight = torch.view_as_complex(self.readout)
        weight = weight / modes.sum(-1) / a if self.normalised else weight * (rate.exp() - 1) / a
        return 2 * torch.einsum("kds,dsn->kdn", weight, modes).real


class LowRank(nn.Module):
    """S4's kernels: Cauchy sums by broadcasting (kernels + 1, 2, D, S, N), Woodbury's identity, roots of unity.

    C stands for C (1 - A^N), as in the authors' code.
    """

    def __init__(self, dim: int, state: int, kernels: int):
        super().__init__()
        self.log_dt = nn.Parameter(torch.empty(dim, 1).uniform_(math.log(0.001), math.log(0.1)))
        self.log_decay = nn.Parameter(torch.full((dim, state), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(state).repeat(dim, 1))
        self.parts = nn.Parameter(torch.randn(kernels + 2, dim, state, 2) / state**0.5)  # C, P and B

    def forward(self, length: int) -> Tensor:
        dt = self.log_dt.exp()
        rate = dt * torch.complex(-self.log_decay.exp(), self.frequency)
        *_, column, drive = parts = torch.view_as_complex(self.parts)
        left = torch.cat([parts[:-2], column.conj()[None]])
        weight = left[:, None] * torch.stack([drive, column]) * dt  # (kernels + 1, 2, D, S)
        omega = torch.exp(-2j * math.pi * torch.arange(length // 2) / length)  # without -1, which is a pole
        z = 2 * (1 - omega) / (1 + omega)
        pairs = weight[..., None] / (z - rate[..., None]) + weight.conj()[..., None] / (z - rate.conj()[..., None])
        sums = pairs.sum(-2)
        driven, through = sums[:, 0], sums[:, 1]
        spectrum = (driven[:-1] - through[:-1] * driven[-1] / (1 + through[-1])) * 2 / (1 + omega)
        return torch.fft.irfft(F.pad(spectrum, (0, 1)), length)


class Spectral(nn.Module):
    """A function of x between two transforms over the places."""

    def __init__(self, axes: tuple[int, ...], grid: tuple[int, ...], change: nn.Module, residual: bool):
        super().__init__()
        self.axes, self.grid, self.change, self.residual = axes, grid, change, residual

    def forward(self, x: Tensor) -> Tensor:
        spectrum = self.change(torch.fft.rfftn(x.unflatten(1, self.grid), dim=self.axes, norm="ortho"))
        y = torch.fft.irfftn(spectrum, self.grid, dim=self.axes, norm="ortho").flatten(1, len(self.grid))
        return x + y if self.residual else y


class Gains(nn.Module):
    """GFNet's filter."""

    def __init__(self, *shape: int):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(*shape, 2))

    def forward(self, spectrum: Tensor) -> Tensor:
        return spectrum * torch.view_as_complex(self.weight)


class Blocks(nn.Module):
    """AFNO's two layers, real and imaginary parts apart."""

    def __init__(self, dim: int, blocks: int, threshold: float):
        super().__init__()
        self.blocks, self.threshold, width = blocks, threshold, dim // blocks
        self.weights = nn.Parameter(0.02 * torch.randn(2, 2, blocks, width, width))
        self.biases = nn.Parameter(0.02 * torch.randn(2, 2, blocks, width))

    def layer(self, real: Tensor, imaginary: Tensor, which: int) -> tuple[Tensor, Tensor]:
        (w, v), (b, c) = self.weights[which], self.biases[which]

        def times(x: Tensor, weight: Tensor) -> Tensor:
            return torch.einsum("...kc,kce->...ke", x, weight)

        return times(real, w) - times(imaginary, v) + b, times(imaginary, w) + times(real, v) + c

    def forward(self, spectrum: Tensor) -> Tensor:
        z = spectrum.unflatten(-1, (self.blocks, -1))
        real, imaginary = self.layer(z.real, z.imag, 0)
        parts = torch.stack(self.layer(real.relu(), imaginary.relu(), 1), dim=-1)
        return torch.view_as_complex(F.softshrink(parts, self.threshold)).flatten(-2)


class FourierMixer(nn.Module):
    """FNet's sublayer, by torch's own transform as in the authors' code."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x, dim=(1, 2)).real
