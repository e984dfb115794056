"""What only a GPU can show of transforms: which backend `auto` takes, and kernels in other threads and streams."""

import threading

import pytest
import torch

from mixers.ops.toeplitz import prepare, toeplitz_backend, toeplitz_matmul


@pytest.fixture(autouse=True)
def precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def empty(length: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(1, length, 1, device="cuda", dtype=dtype)


def test_auto_takes_tiles_then_transforms_then_fft():
    torch.set_float32_matmul_precision("highest")
    for dtype in (torch.bfloat16, torch.float16):
        found = [toeplitz_backend("auto", empty(length, dtype)) for length in (1, 320, 321, 131_072, 131_073)]
        assert found == ["tiles", "tiles", "monarch", "monarch", "fft"]
    assert toeplitz_backend("auto", empty(600)) == "fft"
    with pytest.raises(ValueError, match="rounds float32"):
        toeplitz_backend("monarch", empty(600))
    torch.set_float32_matmul_precision("high")
    assert toeplitz_backend("auto", empty(600)) == "monarch"


def test_the_first_thing_that_a_thread_does():
    """A thread of autograd's has not used the device before."""
    coefficients, x = torch.randn(600, 1, device="cuda"), torch.randn(1, 600, 1, device="cuda").bfloat16()
    exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
    prepared, found = prepare(coefficients, 600, x.dtype, backend="monarch"), []
    thread = threading.Thread(target=lambda: found.append(toeplitz_matmul(prepared, x, causal=True)))
    thread.start()
    thread.join()
    assert (found[0].double() - exact).norm() <= 4e-3 * exact.norm()


def test_kernels_run_on_the_stream_of_their_caller():
    coefficients, x = torch.randn(4096, 64, device="cuda"), torch.randn(8, 4096, 64, device="cuda").bfloat16()
    expected = toeplitz_matmul(coefficients, x, causal=True, backend="monarch")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10**8)  # meanwhile another stream would read what is not made yet
        y = toeplitz_matmul(coefficients, x.clone(), causal=True, backend="monarch")
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(y, expected)
