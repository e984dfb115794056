"""A linear map summed in float64 is rounded once, and has the derivatives of the plain one."""

import torch
import torch.nn.functional as F

from mixers.ops.exact_linear import exact_linear


def arguments(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in ((2, 5, 300), (7, 300), (7,)))


def test_sums_are_rounded_once():
    inputs = arguments(torch.float32)
    exact = F.linear(*(part.double() for part in inputs)).float()
    assert torch.equal(exact_linear(*inputs), exact)
    assert not torch.equal(F.linear(*inputs), exact)  # 300 products in float32 are not


def test_derivatives_are_those_of_the_plain_map():
    assert torch.autograd.gradcheck(exact_linear, arguments(torch.float64))
    assert torch.autograd.gradgradcheck(exact_linear, arguments(torch.float64))


def test_one_token_alone():
    x, weight, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3,), (2, 3), (2,)))
    assert torch.autograd.gradcheck(exact_linear, (x, weight, bias))


def test_derivatives_keep_their_dtype_under_autocast():
    inputs = arguments(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = exact_linear(*inputs)
        found = torch.autograd.grad(y.square().sum(), inputs)
    expected = torch.autograd.grad(F.linear(*inputs).square().sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
