"""The chunked cross-entropy beside torch's, and what it holds in memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from backbones.causal_lm import CausalLM
from backbones.cross_entropy import IGNORED, linear_cross_entropy
from backbones.stack import Stack
from mixers import build


def inputs(rows: int = 13, dim: int = 5, vocabulary: int = 7, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, dim, dtype=dtype, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, dim, dtype=dtype, generator=generator, requires_grad=True)
    bias = torch.randn(vocabulary, dtype=dtype, generator=generator, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets[::4] = IGNORED
    return hidden, weight, bias, targets


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 4, 13])
def test_value_and_gradients_are_torchs(chunk: int | None, biased: bool):
    hidden, weight, bias, targets = inputs()
    leaves = (hidden, weight, bias) if biased else (hidden, weight)
    ours = linear_cross_entropy(hidden, weight, targets, bias if biased else None, chunk=chunk)
    theirs = F.cross_entropy(F.linear(hidden, weight, bias if biased else None), targets)
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(
        torch.autograd.grad(3 * ours, leaves), torch.autograd.grad(3 * theirs, leaves), strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_gradcheck():
    hidden, weight, bias, targets = inputs()
    assert torch.autograd.gradcheck(
        lambda *x: linear_cross_entropy(*x[:2], targets, x[2], chunk=4), (hidden, weight, bias)
    )


def test_leading_shapes_are_free_and_nothing_scored_is_zero():
    hidden, weight, _, targets = inputs(rows=12)
    folded = linear_cross_entropy(hidden.reshape(3, 4, 5), weight, targets.reshape(3, 4))
    torch.testing.assert_close(folded, linear_cross_entropy(hidden, weight, targets))
    nothing = linear_cross_entropy(hidden, weight, torch.full((12,), IGNORED))
    nothing.backward()
    assert nothing.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_a_tied_weight_gets_both_of_its_gradients():
    stack = Stack(8, 1, lambda index, depth, shared: build("softmax", 8, causal=True), width=8, length=6)
    model = CausalLM(stack, vocabulary=11).double()
    tokens, targets = torch.randint(0, 11, (2, 2, 6))
    table = model.embedding.table.weight
    (ours,) = torch.autograd.grad(model(tokens, targets), [table])
    (theirs,) = torch.autograd.grad(F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()), [table])
    torch.testing.assert_close(ours, theirs)


def test_autocast_rounds_the_products_and_not_the_softmax():
    hidden, weight, bias, targets = inputs(rows=64, dim=32, vocabulary=300, dtype=torch.float32)
    exact = linear_cross_entropy(hidden, weight, targets, bias)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(hidden, weight, targets, bias, chunk=10)
        theirs = F.cross_entropy(F.linear(hidden, weight, bias).float(), targets)
    assert ours.dtype == torch.float32
    assert ours.item() != exact.item()
    assert ours.item() == pytest.approx(exact.item(), rel=1e-3)
    gradients = torch.autograd.grad(ours, (hidden, weight, bias))
    references = torch.autograd.grad(theirs, (hidden, weight, bias))
    for mine, reference in zip(gradients, references, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - reference).abs().max() <= 0.03 * reference.abs().max()


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_is_larger_than_a_chunk_of_logits():
    rows, dim, vocabulary, chunk = 512, 16, 5000, 32
    hidden, weight, bias, targets = inputs(rows, dim, vocabulary, torch.float32)
    with Largest() as ours:
        linear_cross_entropy(hidden, weight, targets, bias, chunk=chunk).backward()
    with Largest() as theirs:
        F.cross_entropy(F.linear(hidden, weight, bias), targets).backward()
    assert theirs.elements == rows * vocabulary
    assert ours.elements == max(chunk * vocabulary, vocabulary * dim)


def test_scoring_computes_no_gradient():
    hidden, weight, _, targets = inputs(dtype=torch.float32, rows=8, vocabulary=1000)
    counted = []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            counted.append(function) if function is torch.ops.aten.mm.default else None
            return function(*arguments, **(keywords or {}))

    with torch.no_grad(), Products():
        linear_cross_entropy(hidden, weight, targets)
    assert len(counted) == 1
