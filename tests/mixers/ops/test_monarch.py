"""What can be seen of the transforms without a GPU: their tables, that the kernels compile, and what is refused."""

import dataclasses
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mixers.ops import tensor_cores
from mixers.ops.kernels import monarch
from mixers.ops.kernels.program import compiled
from mixers.ops.kernels.tables import Tables, tables
from mixers.ops.tensor_cores import longest_monarch, require_monarch
from mixers.ops.toeplitz import prepare, toeplitz_matmul

LANE = torch.arange(32)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def waves(turns: torch.Tensor, period: int) -> torch.Tensor:
    return torch.exp(-2j * math.pi * (turns.double() % period) / period)


def real_entries(operands: torch.Tensor, left: bool) -> torch.Tensor:
    """The matrix whose operands of mma.m16n8k16 these are, (m, n, 32, 4, 2), by PTX's description."""
    m, n = operands.shape[:2]
    matrix = torch.zeros(16 * m, 16 * n, dtype=torch.double)
    for word in range(4):
        for half in range(2):
            pair, single = 2 * (LANE % 4) + half, LANE // 4
            row = single + 8 * (word % 2) if left else pair + 8 * (word % 2)
            column = pair + 8 * (word // 2) if left else single + 8 * (word // 2)
            rows, columns = (torch.arange(0, 16 * count, 16) for count in (m, n))
            matrix[rows[:, None, None] + row, columns[None, :, None] + column] = operands[..., word, half].double()
    return matrix


def entries(operands: torch.Tensor, left: bool) -> torch.Tensor:
    """The complex matrix of operands (m, n, 2, 32, 4, 2)."""
    return torch.complex(*(real_entries(part, left) for part in operands.unbind(2)))


def two_steps(table: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a table of the matrix from the left, or its transpose, has of the outer matrix, and the inner ones
    (R / 16, 16, 16)."""
    count, table = rows // 16, table.flatten()
    tiles = (max(count // 8, 1), max(count // 16, 1))  # of the rows of both parts, and of p
    size = 256 * tiles[0] * tiles[1]
    pairs = table[size:].reshape(count, 1, 1, 2, 32, 4, 2)
    return table[:size], torch.stack([entries(pair, True) for pair in pairs])


def right_matrices(read: Tables, columns: int, index: int) -> list[torch.Tensor]:
    """One of the matrices from the right, or of their transposes behind them, in two parts."""
    parts = read.right.reshape(2, columns // 8, 1, 1, 2, 32, 4, 2)
    return [entries(part[index], False) for part in parts]


def size_of(rounded: torch.Tensor, rest: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """What the exact matrix is multiplied by, in float16 and what that leaves."""
    size = ((rounded + rest) / exact).real.mean()
    torch.testing.assert_close(rounded + rest, exact * size, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rounded, exact * size, rtol=0, atol=2**-12)
    assert 0.7 <= size * len(exact) ** 0.5 <= 1.4
    return size


def factors_of(read: Tables, rows: int, columns: int, narrow: bool) -> torch.Tensor:
    """(R, S), from what a lane reads of a tile of rows and a piece of 8 columns: rows lane / 4 and 8 more, two columns
    from 2 (lane % 4) on, cosines before sines."""
    table = read.factors.to(torch.float64).reshape(rows // 16, columns // 8, *((32, 2) if narrow else (2, 32)), 2, 2)
    table = table if narrow else table.transpose(2, 3)
    found, lane = torch.empty(rows // 16, 16, columns // 8, 8, dtype=torch.complex128), torch.arange(32)
    for row in range(2):
        for column in range(2):
            values = torch.complex(*table[:, :, :, row, :, column].permute(3, 0, 2, 1))  # tiles, lanes, pieces
            found[:, 8 * row + lane // 4, :, 2 * (lane % 4) + column] = values.transpose(0, 1)
    return found.reshape(rows, columns)


@pytest.mark.parametrize(("rows", "columns"), monarch.SIDES)
def test_tables_hold_the_matrices_and_what_rounding_left(rows, columns):
    g, a, d, chunks = torch.arange(rows)[:, None], torch.arange(rows), torch.arange(16), columns // 16
    read = tables(rows, columns, False, CPU)
    left = [entries(part, True) for part in read.left.reshape(2, rows // 16, rows // 16, 2, 32, 4, 2)]
    back = entries(read.back.reshape(rows // 16, rows // 16, 2, 32, 4, 2), True)
    torch.testing.assert_close(back, left[0].T, rtol=0, atol=0)
    sizes = {"left": size_of(*left, waves((4 * g + 1) * a, 4 * rows))}
    for k in range(chunks):
        right, transposed = (right_matrices(read, columns, first + k) for first in (0, chunks))
        sizes["right"] = size_of(*right, waves(d[:, None] * (k + chunks * d), columns))
        for one, other in zip(right, transposed, strict=True):
            torch.testing.assert_close(one, other.T, rtol=0, atol=0)
    factors = factors_of(read, rows, columns, False) * chunks**0.5
    torch.testing.assert_close(
        factors, waves((4 * g + 1) * torch.arange(columns), 4 * rows * columns), rtol=0, atol=1e-7
    )
    root = math.sqrt(rows * columns)
    whole = (sizes["left"] * sizes["right"] / chunks**0.5 * root).item()
    assert read.root == pytest.approx(root / whole**3, rel=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [sides for sides in monarch.SIDES if sides[0] > 64])
def test_tables_of_two_steps_hold_the_matrix_from_the_left(rows, columns):
    """Of a = 16 p + q and g = u + R / 16 v, in tiles u of 16 rows v."""
    read, count = tables(rows, columns, True, CPU), rows // 16
    (outer, inner), (outer_back, inner_back) = (two_steps(table, rows) for table in (read.left, read.back))
    tiles = (max(count // 8, 1), max(count // 16, 1))
    outer = real_entries(outer.reshape(*tiles, 32, 4, 2), True)
    torch.testing.assert_close(real_entries(outer_back.reshape(*tiles[::-1], 32, 4, 2), True), outer.T, rtol=0, atol=0)
    torch.testing.assert_close(inner_back, inner.mT, rtol=0, atol=0)
    assert not outer[:, count:].any()
    parts = outer[:, :count].reshape(-1, 2, min(count, 16), count)  # tiles of u, real and imaginary
    outer = torch.complex(parts[:, 0], parts[:, 1]).reshape(count, count)
    whole = torch.einsum("uvq,up->uvpq", inner, outer).reshape(rows, rows)  # rows (u, v), columns 16 p + q
    g = (torch.arange(count)[:, None] + count * torch.arange(16)).reshape(rows, 1)
    exact = waves((4 * g + 1) * torch.arange(rows), 4 * rows)
    size = (whole / exact).real.mean()
    torch.testing.assert_close(whole, exact * size, rtol=0, atol=2**-10 * size.item())
    assert 0.5 <= size * rows**0.5 <= 2
    factors = factors_of(read, rows, columns, True) * (columns // 16) ** 0.5
    exact = waves((4 * g + 1) * torch.arange(columns), 4 * rows * columns)
    torch.testing.assert_close(factors, exact, rtol=0, atol=2**-11)
    right = size_of(*right_matrices(read, columns, 0), waves(torch.arange(16)[:, None] * torch.arange(16), 16))
    root = math.sqrt(rows * columns)
    assert read.root == pytest.approx(root / (size * right / (columns // 16) ** 0.5 * root).item() ** 3, rel=1e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_the_transform_of_the_tables_multiplies_by_the_matrix(causal):
    """The definition of `monarch.py` in complex numbers, with what the kernels read: y, and the root of both scales."""
    rows, columns = 64, 32
    period = rows * columns
    read = tables(rows, columns, False, CPU)
    left = entries(read.left.reshape(2, 4, 4, 2, 32, 4, 2)[0], True)
    right = torch.zeros(columns, columns, dtype=torch.complex128)
    for k in range(2):  # chunks of 16 columns, and their sum and difference
        matrix = right_matrices(read, columns, k)[0] / 2**0.5
        right[:16, k::2], right[16:, k::2] = matrix, (-1) ** k * matrix
    factors = waves((4 * torch.arange(rows)[:, None] + 1) * torch.arange(columns), 4 * period)
    coefficients = torch.randn(period if causal else 2 * period - 1, dtype=torch.float64)
    x = torch.randn(period, dtype=torch.float64)

    def transform(tokens):
        return (left @ tokens.reshape(rows, columns).to(torch.complex128) * factors) @ right

    above = coefficients if causal else coefficients[period - 1 :]
    spectrum = transform(above)
    if not causal:
        spectrum = spectrum + 1j * transform(torch.cat([torch.zeros(1), coefficients[: period - 1]]))
    y = (left.conj().T @ ((read.root * spectrum * transform(x)) @ right.conj() * factors.conj())).real.flatten()
    expected = toeplitz_matmul(coefficients[:, None], x[None, :, None], causal=causal, backend="fft")[0, :, 0]
    assert (y - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("kernel", ["spectrum", "product", "correlate", "restore", "single"])
@pytest.mark.parametrize(
    ("form", "architecture"),
    [
        (
            monarch.Form(*sides, list(monarch.NUMBERS)[index % 3], index % 2 == 0, index % 4 == 1),
            ("sm_80", "sm_89", "sm_90", "sm_100")[index % 4],
        )
        for index, sides in enumerate(monarch.SIDES)
    ],
)
def test_every_kernel_compiles(form, architecture, kernel):
    if kernel == "single":
        form = dataclasses.replace(form, columns=64)  # it knows no other
    assert compiled(kernel, form.macros(kernel), architecture).code


def test_the_products_of_transforms_are_counted():
    """For 10 tokens, R = 32 and S = 16: two real products from the left and four of 16 from the right a transform; for
    8,192 bfloat16, R = 128 and S = 64: two of 8 and four of 16 from the left, four of 16 from the right."""
    for length, dtype, shape, each in (
        (10, torch.float16, (3, 2, 1, 2, 32, 4, 2), 32 * 16 * (4 * 32 + 8 * 16)),
        (8192, torch.float16, (3, 8, 4, 2, 32, 4, 2), 8192 * (4 * 128 + 8 * 16)),
        (8192, torch.bfloat16, (3, 8, 4, 2, 32, 4, 2), 8192 * (4 * 8 + 8 * 16 + 8 * 16)),
    ):
        with FakeTensorMode(), FlopCounterMode(display=False) as counter:  # tensors without memory
            x = torch.empty(3, 2, length, dtype=dtype)
            values, scale = monarch.spectrum(torch.empty(3, length), 0, length, dtype)
            assert (values.shape, scale.shape) == (shape, (3,))
            y, wide = (monarch.product(values, scale, x, False, False, wide) for wide in (False, True))
            assert (y.shape, y.dtype, wide.shape, wide.dtype) == (x.shape, x.dtype, x.shape, torch.float32)
            assert monarch.gradient(x, x, 1 - length, length - 1, False).shape == (3, 2 * length - 1)
        assert counter.get_total_flops() == 6 * 3 * 2 * each  # of three operations


def test_what_cannot_run_is_refused():
    coefficients, x = torch.ones(5, 2), torch.ones(1, 5, 2)
    for run in (
        lambda: toeplitz_matmul(coefficients, x, causal=True, backend="monarch"),
        lambda: prepare(coefficients, 5, x.dtype, backend="monarch"),
    ):
        with pytest.raises(ValueError, match=r"backend='monarch' needs a GPU, not (x|coefficients) on cpu"):
            run()
    with pytest.raises(ValueError, match=r"takes float32, float16 and bfloat16, not torch.float64"):
        toeplitz_matmul(coefficients, x.double(), causal=True, backend="monarch")


@pytest.mark.parametrize(("capability", "longest"), [((8, 0), 65_536), ((8, 9), 65_536), ((9, 0), 131_072)])
def test_more_than_four_transforms_on_chip_are_refused(capability, longest, monkeypatch):
    monkeypatch.setattr(tensor_cores, "capability", lambda device: capability)
    assert longest_monarch(GPU) == longest
    require_monarch(longest, torch.bfloat16, GPU)
    with pytest.raises(ValueError, match=f"takes up to {longest:,} tokens on cuda:0, not {longest + 1:,}"):
        require_monarch(longest + 1, torch.bfloat16, GPU)


def test_a_gpu_without_the_instructions_is_refused(monkeypatch):
    monkeypatch.setattr(tensor_cores, "capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=r"needs a GPU of compute capability 8.0 or more, and cuda:0 has 7.5"):
        require_monarch(5, torch.bfloat16, GPU)


def test_float32_is_rounded_only_where_torch_may_round_it(monkeypatch):
    monkeypatch.setattr(tensor_cores, "capability", lambda device: (9, 0))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        require_monarch(5, torch.float32, GPU)
        torch.set_float32_matmul_precision("highest")
        with pytest.raises(ValueError, match=r"rounds float32 to 11 bits, as TF32 does"):
            require_monarch(5, torch.float32, GPU)
    finally:
        torch.set_float32_matmul_precision(before)
