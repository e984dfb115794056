"""What is computed again gives the same gradients, and is not kept."""

from contextlib import nullcontext

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from mixers.ops.again import computed_again


def product(x: torch.Tensor, weight: torch.Tensor, again: bool) -> tuple[torch.Tensor, StorageWeakRef]:
    """exp(x) times the weight, and what tells whether exp(x) is kept."""
    hidden = x.exp()
    with computed_again(hidden, x.exp) if again else nullcontext():
        return hidden @ weight, StorageWeakRef(hidden.untyped_storage())


def test_gradients_and_second_derivatives_are_the_same():
    x, weight = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True).unbind()
    results = []
    for again in (False, True):
        y, _ = product(x, weight, again)
        first = torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)
        results.append((*first, *torch.autograd.grad(sum(part.square().sum() for part in first), (x, weight))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_it_is_computed_once_for_each_gradient_and_only_then():
    calls, x, weight = [], torch.randn(5, 5), torch.randn(5, 5, requires_grad=True)
    hidden = x.exp()
    with computed_again(hidden, lambda: calls.append(1) or x.exp()):
        y = hidden @ weight
    assert not calls
    y.sum().backward()
    assert len(calls) == 1
    torch.testing.assert_close(weight.grad, x.exp().T @ torch.ones(5, 5))


def test_what_is_computed_again_is_not_kept():
    """Only exp, which keeps its result, would hold it: so x needs no gradient here."""
    x, weight = torch.randn(5, 5), torch.randn(5, 5, requires_grad=True)
    results = [product(x, weight, again) for again in (False, True)]
    assert [storage.expired() for _, storage in results] == [False, True]


def test_other_views_of_the_same_memory_are_kept():
    """A transposed one, and another part."""
    both, weight = torch.randn(2, 5, 5), torch.randn(5, 5, requires_grad=True)
    one, other = both
    with computed_again(one, lambda: torch.zeros(5, 5)):
        y = one.T @ weight + other @ weight
    (found,) = torch.autograd.grad(y.sum(), weight)
    torch.testing.assert_close(found, (one.T + other).T @ torch.ones(5, 5))


def test_what_else_is_kept_stays():
    x, weight = torch.randn(5, 5, requires_grad=True), torch.randn(5, 5, requires_grad=True)
    hidden = x.sin()
    with computed_again(hidden, lambda: torch.zeros(5, 5)):  # wrong on purpose: it reaches the weight's gradient alone
        y = hidden @ weight
    y.sum().backward()
    assert not weight.grad.any()
    torch.testing.assert_close(x.grad, x.cos() * weight.sum(1).detach())
