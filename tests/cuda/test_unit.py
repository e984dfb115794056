"""The gated unit on a GPU: what it keeps, and its gradients with all that is fused and computed again."""

import copy

import pytest
import torch

from mixers import build


@pytest.mark.parametrize("length", [300, 700, 4100])
def test_gradients_under_autocast_are_those_of_float64(length: int):
    """By tiles and by transforms, which take SiLU on their way."""
    torch.manual_seed(0)
    unit, x = build("gtu", 64, causal=True), torch.randn(2, length, 64)
    weight, found = torch.randn(2, length, 64), []
    for module, leaf in ((copy.deepcopy(unit).double(), x.double()), (unit.cuda(), x.cuda())):
        leaf = leaf.requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            y = module(leaf)
        gradients = torch.autograd.grad(y, [leaf, *module.parameters()], weight.to(y))
        found.append([part.detach().double().cpu() for part in (y, *gradients)])
    for exact, rounded in zip(*found, strict=True):
        assert (rounded - exact).norm() <= 5e-2 * exact.norm() + 1e-6


def test_the_unit_keeps_three_numbers_a_token_and_channel():
    """u, v and what the operator makes of v: neither SiLU(v) nor what goes into the last layer."""
    unit, x = build("gtu", 64, causal=True).cuda(), torch.randn(16, 1024, 64, device="cuda").bfloat16()
    with torch.autocast("cuda", torch.bfloat16):
        unit(x).sum().backward()  # tables are made now
        before = torch.cuda.memory_allocated()
        y = unit(x)
    kept = torch.cuda.memory_allocated() - before - y.nbytes
    assert 3 <= kept / (16 * 1024 * 192 * 2) < 3.9
