"""Every kernel once, at odd sizes, for a tool that watches memory:

compute-sanitizer --tool memcheck --report-api-errors no python tests/cuda/every_kernel.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for a checkout that is not installed

import torch

from mixers.ops.kernels import encoder, gate, monarch, tiles

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SHAPES = (
    (1, 1, 3),
    (5, 300, 2),
    (3, 1001, 2),
    (3, 2048, 2),
    (1, 4090, 1),
    (1, 8192, 1),
    (1, 16_000, 1),
    (1, 32_768, 1),
)


def products(dtype: torch.dtype, batch: int, length: int, channels: int, lowest: int) -> None:
    coefficients = torch.randn(channels, length - lowest, device="cuda")
    x, dy = torch.randn(2, channels, batch, length, device="cuda").to(dtype)
    made = monarch.spectrum(coefficients, lowest, length, dtype)
    for silu in (False, True):
        monarch.product(*made, x, not silu, silu, silu)
        monarch.gradient(dy, x, lowest, length - 1, silu)
    if length <= 1001:
        tiles.product(*tiles.table(coefficients, lowest, dtype, False), x, lowest, length - 1)
        tiles.gradient(dy, x, lowest, length - 1)


def coefficients(channels: int, width: int, layers: int) -> None:
    rate = torch.full((channels,), 0.01, device="cuda")
    shapes = (channels, width), (channels,), *[(width, width)] * layers, *[(width,)] * (layers + 2)
    last, last_bias, *inner = (torch.randn(shape, device="cuda") for shape in shapes)
    for count, first in ((155, -77.0), (3000, 0.0), (13_000, -1000.0)):  # the last beyond where decays are zero
        found, *known = encoder.encode(count, first, 1.0, 1.0, rate, inner, last, last_bias)
        encoder.gradients(torch.randn_like(found), first, 1.0, 1.0, rate, inner, last, *known)


def main() -> None:
    for dtype in DTYPES:
        for batch, length, channels in SHAPES:
            for lowest in (0, 1 - length):
                products(dtype, batch, length, channels, lowest)
    for channels, width, layers in ((37, 30, 3), (130, 64, 6), (3, 128, 1), (20, 32, 0)):
        coefficients(channels, width, layers)
    u, x = torch.randn(2, 1001, device="cuda")
    gate.gradients(gate.gate(u, x), u, x)
    halves = torch.randn(7, 2 * 33, device="cuda")
    gate.halves_gradients(gate.gate_halves(halves), halves)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
