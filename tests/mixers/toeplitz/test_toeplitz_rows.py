"""The Toeplitz rows against forms that loop over i and j, written from the papers' equations."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixers import build
from mixers.toeplitz.mixer import ONES, _channel_first

NEAR = {"rtol": 1e-6, "atol": 1e-8}  # the rate of decay is a float32 buffer
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "none": lambda x: x}
NORMS = {
    "rms": lambda x: x / (x.square().mean().sqrt() + 1e-8),
    "layer": lambda x: (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt(),
    "none": lambda x: x,
}


def rpe_by_hand(rpe, feature, *, activation="relu", norm="rms", residual=False):
    """Linear, then (norm, activation, Linear) for every further layer (section 3.3)."""
    hidden = rpe.linears[0](torch.as_tensor(feature, dtype=torch.float64).reshape(-1))
    for index, linear in enumerate(rpe.linears[1:]):
        change = linear(ACTIVATIONS[activation](NORMS[norm](hidden)))
        last = index == len(rpe.linears) - 2
        hidden = hidden + change if residual and not last else change
    return hidden


def tno_by_hand(operator, x, decay, feature=lambda lag, length: float(lag), **form):
    """y_i = sum over j of decay^|i-j| RPE(i-j) x_j (equations 6 and 9)."""
    y, length = torch.zeros_like(x), x.shape[1]
    for i in range(length):
        for j in range(length):
            if j <= i or not operator.causal:
                encoded = rpe_by_hand(operator.coefficients.rpe, feature(i - j, length), **form)
                y[:, i] += decay ** abs(i - j) * encoded * x[:, j]
    return y


@pytest.mark.parametrize("causal", [True, False])
def test_tno_is_the_double_loop(causal: bool):
    tno = build("tno", 3, causal=causal, decay=0.9, rpe_width=5, rpe_layers=2).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(tno(x), tno_by_hand(tno.operator, x, 0.9), **NEAR)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("norm", ["rms", "layer", "none"])
@pytest.mark.parametrize("residual", [True, False])
def test_every_form_of_the_encoder(activation: str, norm: str, residual: bool):
    form = {"rpe_activation": activation, "rpe_norm": norm, "rpe_residual": residual}
    tno = build("tno", 3, causal=True, decay=0.9, rpe_width=5, rpe_layers=2, **form).double()
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    expected = tno_by_hand(tno.operator, x, 0.9, activation=activation, norm=norm, residual=residual)
    torch.testing.assert_close(tno(x), expected, **NEAR)


def test_sines_and_cosines_of_the_lag():
    tno = build("tno", 3, causal=False, decay=0.9, rpe_width=6, rpe_layers=1, rpe_input="sincos").double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)

    def feature(lag, length):
        angles = [lag * 10000 ** (-2 * i / 6) for i in range(3)]
        return [*map(math.sin, angles), *map(math.cos, angles)]

    torch.testing.assert_close(tno(x), tno_by_hand(tno.operator, x, 0.9, feature), **NEAR)


@pytest.mark.parametrize("causal", [True, False])
def test_the_normalised_unit_divides_lags_by_n(causal: bool):
    gtu = build("gtu_normalised", 3, causal=causal, expand=1, decay=0.9, rpe_width=5, rpe_layers=1).double()
    x, unit = torch.randn(2, 5, 3, dtype=torch.float64), gtu.projections
    mixed = tno_by_hand(gtu.operator, F.silu(unit.value(x)), 0.9, lambda lag, length: lag / length)
    torch.testing.assert_close(gtu(x), unit.out(F.silu(unit.gate(x)) * mixed), **NEAR)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_gtu_gates_the_operator(causal: bool, activation: str):
    form = {"expand": 2, "decay": 0.9, "rpe_width": 5, "rpe_layers": 1, "activation": activation}
    gtu = build("gtu", 3, causal=causal, **form).double()
    x, unit, act = torch.randn(2, 5, 3, dtype=torch.float64), gtu.projections, ACTIVATIONS[activation]
    expected = unit.out(act(unit.gate(x)) * tno_by_hand(gtu.operator, act(unit.value(x)), 0.9))
    torch.testing.assert_close(gtu(x), expected, **NEAR)


def test_learned_decays_lie_between_the_floor_and_one():
    tno = build("tno", 3, causal=True, decay=0.9, learn_decay=True, rpe_width=5, rpe_layers=1).double()
    decays = 0.9 + 0.1 * torch.sigmoid(tno.operator.coefficients.decay.logit)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(tno(x), tno_by_hand(tno.operator, x, decays), **NEAR)
    assert ((decays > 0.9) & (decays < 1)).all()


@pytest.mark.parametrize("row", ["tno_free", "gtu_free"])
@pytest.mark.parametrize("causal", [True, False])
def test_free_coefficients_are_parameters(row: str, causal: bool):
    mixer = build(row, 3, causal=causal, length=8, decay=0.9).double()
    coefficients = mixer.operator.coefficients
    first = 0 if causal else -7
    weights = {first + index: row for index, row in enumerate(coefficients.weight)}
    for length in (1, 5, 8):
        lags = range(0 if causal else 1 - length, length)
        expected = torch.stack([0.9 ** abs(lag) * weights[lag] for lag in lags])
        torch.testing.assert_close(coefficients(length), expected, **NEAR)


def test_free_coefficients_decode_up_to_their_last_lag_and_no_further():
    mixer = build("tno_free", 2, causal=True, length=5).double()
    x = torch.randn(1, 5, 2, dtype=torch.float64)
    y, state = mixer(x), mixer.init_state(1)
    for place in range(5):
        out, state = mixer.step(x[:, place], state)
        torch.testing.assert_close(out, y[:, place])
    with pytest.raises(ValueError, match="token 6 is beyond length=5"):
        mixer.step(x[:, 0], state)


def grid_by_hand(operator, image):
    """Sum over the places of one row, or of one column, with the operator's coefficients."""

    def along(axis, which):
        length = image.shape[axis]
        coefficients = which.coefficients(length)
        result = torch.zeros_like(image)
        for i in range(length):
            for j in range(length):
                result.select(axis, i).add_(coefficients[i - j + length - 1] * image.select(axis, j))
        return result

    return lambda first: along(
        2 if first == "row" else 1, operator.along_row if first == "row" else operator.along_column
    )


def test_the_sum_of_axes():
    operator = build("gtu_2d", 2, causal=False, grid=(3, 4), expand=1, rpe_width=4).double().operator
    x = torch.randn(2, 12, 2, dtype=torch.float64)
    along = grid_by_hand(operator, x.unflatten(1, (3, 4)))
    torch.testing.assert_close(operator(x), (along("row") + along("column")).flatten(1, 2))


def test_the_product_of_axes_is_both_orders():
    operator = build("gtu_2d_product", 2, causal=False, grid=(3, 4), expand=1, rpe_width=4).double().operator
    x = torch.randn(2, 12, 2, dtype=torch.float64)
    image = x.unflatten(1, (3, 4))
    rows_first = grid_by_hand(operator, grid_by_hand(operator, image)("row"))("column")
    columns_first = grid_by_hand(operator, grid_by_hand(operator, image)("column"))("row")
    torch.testing.assert_close(operator(x), (rows_first + columns_first).flatten(1, 2))


def test_fewer_tokens_are_a_grid_that_ends_early():
    mixer = build("gtu_2d", 2, causal=False, grid=(3, 4)).double()
    x = torch.randn(1, 7, 2, dtype=torch.float64)
    whole = torch.cat([x, torch.zeros(1, 5, 2, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(mixer(x), mixer(whole, torch.arange(12)[None] < 7)[:, :7])
    with pytest.raises(ValueError, match="N=13 is beyond the 3 x 4 = 12 places"):
        mixer(torch.zeros(1, 13, 2, dtype=torch.float64))


def test_ski_is_its_dense_matrix():
    """T = S + W A W^T with W the hat functions of R points spread over 0 .. N-1, k(s) = f(sign(s) warp^|s|)."""
    length, rank, warp = 11, 5, 0.8
    mixer = build("ski_tno", 2, causal=False, rank=rank, taps=3, warp=warp).double()
    part = mixer.operator
    spacing = (length - 1) / (rank - 1)

    def f(value, channel):
        side = [0.0, *part.values[0 if value > 0 else 1, :, channel].tolist()]
        place = abs(value) * rank
        below = min(int(place), rank - 1)
        return side[below] + (place - below) * (side[below + 1] - side[below])

    def k(s, channel):
        return f(math.copysign(warp ** abs(s), s), channel) if s else 0.0

    x = torch.randn(1, length, 2, dtype=torch.float64)
    for channel in range(2):
        matrix = torch.zeros(length, length, dtype=torch.float64)
        hats = [[max(0.0, 1 - abs(i / spacing - a)) for a in range(rank)] for i in range(length)]
        for i in range(length):
            for j in range(length):
                if abs(j - i) <= 1:
                    matrix[i, j] += part.taps[channel, 0, 1 + j - i]
                for a in range(rank):
                    for b in range(rank):
                        matrix[i, j] += hats[i][a] * k((a - b) * spacing, channel) * hats[j][b]
        torch.testing.assert_close(mixer(x)[0, :, channel], matrix @ x[0, :, channel])


@pytest.mark.parametrize("length", [1, 2, 3, 6, 8])
def test_fd_multiplies_by_its_frequency_response(length: int):
    """y = irfft(K rfft(x, S))[:N]: the MLP gives K, or its real part, which the Hilbert transform completes."""
    size = 2 ** math.ceil(math.log2(2 * length))
    frequencies = [math.pi * index / (size // 2) for index in range(size // 2 + 1)]
    x = torch.randn(2, length, 3, dtype=torch.float64)
    for causal in (True, False):
        mixer = build("fd_tno", 3, causal=causal, rpe_width=5, rpe_layers=1).double()
        rpe = mixer.operator.coefficients.rpe
        response = torch.stack([rpe_by_hand(rpe, frequency) for frequency in frequencies])
        if causal:
            kernel = torch.fft.irfft(response, size, dim=0)
            kernel[size // 2 + 1 :] = 0
            kernel[0] /= 2
            response = 2 * torch.fft.rfft(kernel, dim=0)
        else:
            imaginary = response[:, 3:].clone()
            imaginary[0] = imaginary[-1] = 0
            response = torch.complex(response[:, :3], imaginary)
        expected = torch.fft.irfft(response * torch.fft.rfft(x, size, dim=1), size, dim=1)[:, :length]
        torch.testing.assert_close(mixer(x), expected, **NEAR)


def test_the_rpe_has_one_linear_more_than_its_layers_at_each_end():
    linears = build("tno", 3, causal=True, rpe_width=5, rpe_layers=6).operator.coefficients.rpe.linears
    assert [(linear.in_features, linear.out_features) for linear in linears] == [(1, 5), *[(5, 5)] * 6, (5, 3)]


def test_the_rpe_tells_large_lags_apart_under_autocast():
    coefficients = build("tno", 3, causal=True).operator.coefficients
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = coefficients(600)
    assert torch.equal(under_autocast, coefficients(600))


def test_the_decay_survives_half_precision():
    tno = build("tno", 3, causal=True, decay=0.99).bfloat16()
    lags = torch.arange(513)
    decayed = tno.operator.coefficients.decay(lags, torch.float32)[512]
    torch.testing.assert_close(decayed, torch.full((3,), 0.99**512), rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"decay": 1.5}, r"decay=1.5 must lie in \(0, 1\]"),
        ({"decay": 1.0, "learn_decay": True}, "learned decays lie above it"),
        ({"rpe_input": "normalised"}, "a row of its own, gtu_normalised"),
        ({"rpe_input": "exp"}, "rpe_input='exp' must be one of integer, sincos, normalised"),
        ({"rpe_norm": "batch"}, "rpe_norm='batch' must be one of rms, layer, none"),
        ({"rpe_activation": "swish"}, "rpe_activation='swish' must be one of relu"),
        ({"backend": "cuda"}, "unknown Toeplitz backend 'cuda'"),
        ({"expand": 0.01}, "expand=0.01 times dim=8 must be at least 1"),
    ],
)
def test_bad_keywords_get_one_clear_line(keywords, message):
    with pytest.raises(ValueError, match=message):
        build("gtu", 8, causal=True, **keywords)


@pytest.mark.parametrize(
    ("row", "keywords", "message"),
    [
        ("ski_tno", {"taps": 4}, "taps=4 odd"),
        ("ski_tno", {"rank": 1}, "rank=1 must be at least 2"),
        ("ski_tno", {"warp": 1.0}, r"warp=1.0 must lie in \(0, 1\)"),
        ("gtu_2d", {"grid": (0, 4)}, "must have at least one row"),
        ("tno_free", {"length": 0}, "length=0 must be at least 1"),
    ],
)
def test_bad_keywords_of_other_rows(row, keywords, message):
    with pytest.raises(ValueError, match=message):
        build(row, 8, causal=False, **keywords)


@pytest.mark.parametrize("causal", [True, False])
def test_convolution_is_the_double_loop(causal: bool):
    mixer = build("convolution", 3, causal=causal, width=3).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    y = torch.zeros_like(x)
    for i in range(6):
        for j in range(6):
            tap = 2 - (i - j)  # the oldest lag, 2, is the first tap
            if 0 <= tap < mixer.weight.shape[-1]:
                y[:, i] += mixer.weight[:, 0, tap] * x[:, j]
    torch.testing.assert_close(mixer(x), y)


def test_ones_beside_the_input_carry_the_bias_and_its_gradient():
    """As on a GPU, where the bias would be written out over all tokens."""
    linear, x = nn.Linear(5, 7).double(), torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight, leaves = torch.randn(2, 3, 7, dtype=torch.float64), (x, linear.weight, linear.bias)
    results = []
    for inputs in (x, F.pad(x, (0, ONES), value=1.0)):
        y = _channel_first(linear, inputs)
        results.append((y, *torch.autograd.grad(y, leaves, weight)))
    expected = linear(x)
    results.append((expected, *torch.autograd.grad(expected, leaves, weight)))
    for plain, with_ones, wanted in zip(*results, strict=True):
        torch.testing.assert_close(plain, wanted)
        torch.testing.assert_close(with_ones, wanted)


@pytest.mark.parametrize("width", [8, 24, 15])
def test_a_unit_refuses_another_width(width: int):
    with pytest.raises(ValueError, match=f"x must have 16 channels, not {width}"):
        build("gtu", 16, causal=True)(torch.randn(1, 5, width))
