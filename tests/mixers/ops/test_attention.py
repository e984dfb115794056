"""Attention through SDPA is the dense definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixers.ops.attention import attention, attention_backend


@st.composite
def problems(draw):
    """q, k, v and the keywords of `attention`."""
    causal, biased, masked = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    batch, heads, keys, width = (draw(st.integers(1, limit)) for limit in (2, 3, 20, 4))
    queries = keys if causal else draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k, v = normal(batch, heads, queries, width), normal(batch, heads, keys, width), normal(batch, heads, keys, width)
    mask = torch.arange(keys) < torch.randint(0, keys + 1, (batch, 1), generator=generator)
    bias = normal(heads, queries, keys)
    return q, k, v, {"causal": causal, "bias": bias if biased else None, "mask": mask if masked else None}


@given(problems())
def test_sdpa_is_dense(problem):
    q, k, v, keywords = problem
    outputs, gradients = [], []
    for backend in ("sdpa", "dense"):
        inputs = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
        y = attention(*inputs, **keywords, backend=backend)
        outputs.append(y)
        gradients.append(torch.autograd.grad((y * torch.linspace(1, 2, y.shape[-1])).sum(), inputs))
    torch.testing.assert_close(*outputs)
    for fast, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, dense)


def test_a_query_that_sees_nothing_returns_zeros():
    q = torch.randn(1, 1, 2, 4)
    for backend in ("sdpa", "dense"):
        y = attention(q, q, q, mask=torch.zeros(1, 2, dtype=torch.bool), backend=backend)
        assert torch.equal(y, torch.zeros_like(y))


@pytest.mark.parametrize(
    ("backend", "message"),
    [("flash", "unknown attention backend 'flash'"), ("xformers", "the xformers backend needs CUDA")],
)
def test_a_backend_that_cannot_run_raises(backend: str, message: str):
    with pytest.raises(ValueError, match=message):
        attention(*[torch.randn(1, 1, 2, 4)] * 3, backend=backend)


def test_auto_is_sdpa_on_the_cpu():
    assert attention_backend("auto", torch.zeros(1, dtype=torch.bfloat16), plain=True) == "sdpa"


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("backend", ["dense", "sdpa"])
def test_dropout_drops_weights_and_scales_the_others(backend: str, masked: bool):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 64, 8).unbind()
    mask = torch.ones(1, 64, dtype=torch.bool) if masked else None
    options = {"mask": mask, "causal": True, "backend": backend}
    weights = attention(q, k, torch.eye(64)[None, None], **options)
    dropped = attention(q, k, torch.eye(64)[None, None], dropout=0.25, **options)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)
    assert (kept & (weights > 0)).sum() / (weights > 0).sum() == pytest.approx(0.75, abs=0.05)
