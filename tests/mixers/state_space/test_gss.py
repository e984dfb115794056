"""GSS against gated-state-spaces-pytorch with the weights mapped, and its kernel written as a loop."""

import pytest
import torch
from gated_state_spaces_pytorch import GSS

from mixers import build


def pair(causal: bool):
    """A mixer, and the package's layer with the same weights, its own residual and outer norm switched off."""
    torch.manual_seed(0)
    mixer = build("gss", 8, causal=causal, expand=3.0, reduce=0.5, state=5).double()
    with torch.no_grad():
        for parameter in mixer.norm.parameters():
            parameter += torch.randn_like(parameter)
    other = GSS(dim=8, dim_expansion_factor=3, dss_kernel_N=5, dss_kernel_H=4).double()
    other.norm = torch.nn.Identity()
    weights = {
        "to_u.0.weight": mixer.gate.weight,
        "to_v.0.weight": mixer.value.weight,
        "dss.norm.weight": mixer.norm.weight,
        "dss.norm.bias": mixer.norm.bias,
        "dss.Lambda_real": mixer.space.log_decay,
        "dss.Lambda_imag": mixer.space.log_frequency,
        "dss.C_real": mixer.space.readout[..., 0],
        "dss.C_imag": mixer.space.readout[..., 1],
        "dss.param_D": mixer.space.skip,
        "to_gate.weight": mixer.widen.weight,
        "to_out.weight": mixer.out.weight,
        "to_out.bias": mixer.out.bias,
    }
    other.load_state_dict(weights)  # strict: there are no others
    return mixer, other


@pytest.mark.parametrize("length", [1, 2, 9, 33])
def test_causal_form_is_the_packages(length: int):
    mixer, other = pair(causal=True)
    x = torch.randn(2, length, 8, dtype=torch.float64)
    torch.testing.assert_close(mixer(x), other(x) - x)


@pytest.mark.parametrize("length", [1, 2, 9, 33])
def test_bidirectional_form_runs_both_ways(length: int):
    """What the TNN paper's comparison does with the package's code: dss(v) + flip(dss(flip(v)))."""
    mixer, other = pair(causal=False)
    x = torch.randn(2, length, 8, dtype=torch.float64)
    v = other.to_v(x)
    mixed = other.dss(v) + other.dss(v.flip(1)).flip(1)
    torch.testing.assert_close(mixer(x), other.to_out(other.to_gate(mixed) * other.to_u(x)))


def test_kernel_is_the_papers():
    mixer = build("gss", 8, causal=True, state=3).double()
    rate = torch.complex(-mixer.space.log_decay.exp(), mixer.space.log_frequency.exp())
    kernel = mixer.space.kernel(11)[0]
    for place in range(11):
        for channel in range(2):
            total = 0
            for mode in range(3):
                c = torch.view_as_complex(mixer.space.readout[channel, mode])
                total += c * (rate[mode].exp() - 1) / rate[mode] * (rate[mode] * place).exp()
            torch.testing.assert_close(kernel[place, channel], total.real)


def test_widths():
    mixer = build("gss", 16, causal=True)
    assert mixer.value.weight.shape == (4, 16)
    assert mixer.gate.weight.shape == (64, 16)
    assert mixer.space.readout.shape == (4, 512, 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"state": 0}, "gss: state=0 must be at least 1"),
        ({"expand": 0.1}, "gss: expand=0.1 times dim=8 must be at least 1"),
        ({"reduce": 0.1}, "gss: reduce=0.1 times dim=8 must be at least 1"),
    ],
)
def test_bad_keywords(keywords: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build("gss", 8, causal=True, **keywords)
