"""Mixed chunk attention against its equations, token by token, and against the package FLASH-pytorch."""

import math

import pytest
import torch
from flash_pytorch import FLASH
from rotary_embedding_torch import RotaryEmbedding
from torch import Tensor, nn

from mixers import build


def moved(name: str, **options):
    """A mixer in float64, its parameters of a size at which queries, keys and biases all matter."""
    mixer = build(name, 6, expand=1.5, head_dim=4, **options).double()
    for parameter in mixer.parameters():
        nn.init.normal_(parameter, std=0.7)
    return mixer


def turn(vector: Tensor, position: int) -> Tensor:
    """Channels 2c and 2c + 1 as a complex number, times e^(i position 10000^(-2c / S))."""
    pairs = torch.view_as_complex(vector.reshape(-1, 2).contiguous())
    angles = [position * 10000 ** (-c / len(pairs)) for c in range(len(pairs))]
    turns = torch.tensor([complex(math.cos(a), math.sin(a)) for a in angles], dtype=pairs.dtype)
    return torch.view_as_real(pairs * turns).flatten()


def expected(mixer, x: Tensor, *, mean: bool) -> Tensor:
    """Equations 5 to 8 with the constants of the paper's code, or of the TNN comparison's."""
    parts, chunk, length = mixer.projections, mixer.chunk, len(x)
    hidden = x @ parts.hidden.weight.T + parts.hidden.bias
    u, v, z = (hidden * torch.sigmoid(hidden)).split([9, 9, 4], dim=-1)
    q, k, linear_q, linear_k = (
        [turn(z[i] * scale + offset, i) for i in range(length)]
        for scale, offset in zip(parts.scale, parts.offset, strict=True)
    )
    earliest = 0 if mixer.causal else 1 - chunk
    rows = []
    for i in range(length):
        inside = [j for j in range(length) if j // chunk == i // chunk and (j <= i or not mixer.causal)]
        seen = range(i // chunk * chunk) if mixer.causal else range(length)
        mixed = torch.zeros(9, dtype=x.dtype)
        for j in inside:
            score = q[i] @ k[j] / chunk + mixer.bias.weight[i - j - earliest]
            mixed = mixed + score.clamp_min(0) ** 2 * v[j]
        for j in seen:
            mixed = mixed + linear_q[i] @ linear_k[j] * v[j] / (len(seen) if mean else chunk)
        rows.append(parts.out(u[i] * mixed))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["flash", "flash_tnn"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("length", "chunk"), [(1, 4), (11, 4), (12, 4), (7, 1), (5, 9)])
def test_mixed_chunks_are_the_equations(name: str, causal: bool, length: int, chunk: int):
    mixer, x = moved(name, causal=causal, chunk=chunk), torch.randn(length, 6, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], expected(mixer, x, mean=name == "flash"))


def oracle(mixer) -> FLASH:
    """FLASH-pytorch's layer with the weights of a mixer of chunks of at most 8, where its buckets hold one lag each."""
    parts, chunk = mixer.projections, mixer.chunk
    options = {"dim": 6, "group_size": chunk, "query_key_dim": 4, "expansion_factor": 1.5, "causal": mixer.causal}
    layer = FLASH(**options, rotary_pos_emb=RotaryEmbedding(dim=4), norm_klass=lambda dim: nn.Identity()).double()
    u, v, z = (slice(0, 9), slice(9, 18), slice(18, 22))
    lags = range(0 if mixer.causal else 1 - chunk, chunk)
    with torch.no_grad():
        layer.to_hidden[0].weight.copy_(torch.cat([parts.hidden.weight[v], parts.hidden.weight[u]]))
        layer.to_hidden[0].bias.copy_(torch.cat([parts.hidden.bias[v], parts.hidden.bias[u]]))
        layer.to_qk[0].weight.copy_(parts.hidden.weight[z])
        layer.to_qk[0].bias.copy_(parts.hidden.bias[z])
        layer.qk_offset_scale.gamma.copy_(parts.scale[[0, 2, 1, 3]])  # quadratic q, linear q, quadratic k, linear k
        layer.qk_offset_scale.beta.copy_(parts.offset[[0, 2, 1, 3]])
        layer.to_out.load_state_dict(parts.out.state_dict())
        for lag, value in zip(lags, mixer.bias.weight, strict=True):
            bucket = lag if lag >= 0 else 16 - lag
            layer.rel_pos_bias.relative_attention_bias.weight[bucket] = value / layer.rel_pos_bias.scale
    return layer


@pytest.mark.parametrize(("name", "causal"), [("flash_tnn", True), ("flash", False)])
@pytest.mark.parametrize("length", [1, 8, 21])
def test_mixed_chunks_are_those_of_flash_pytorch(name: str, causal: bool, length: int):
    """It sums the past as the comparison does and takes the mean of the whole as the paper does."""
    mixer, x = moved(name, causal=causal, chunk=8), torch.randn(2, length, 6, dtype=torch.float64)
    torch.testing.assert_close(mixer(x), oracle(mixer)(x) - x, rtol=1e-5, atol=1e-5)  # its angles are in float32


def test_the_mean_is_over_real_tokens():
    mixer, x = moved("flash", causal=False, chunk=4), torch.randn(2, 11, 6, dtype=torch.float64)
    real = torch.tensor([11, 6])
    y = mixer(x, torch.arange(11) < real[:, None])
    torch.testing.assert_close(y[1, :6], mixer(x[1:, :6])[0])


def test_parameters_are_the_papers():
    mixer = build("flash", 64, causal=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in mixer.named_parameters()}
    assert shapes["projections.scale"] == shapes["projections.offset"] == (4, 128)
    assert shapes["bias.weight"] == (2 * 256 - 1,)
    assert mixer.projections.hidden.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("name", ["flash", "flash_tnn"])
def test_bad_chunks_get_one_clear_line(name: str):
    with pytest.raises(ValueError, match=f"{name}: chunk=0 must be at least 1"):
        build(name, 6, causal=True, chunk=0)
