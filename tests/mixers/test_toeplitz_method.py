"""Where a mixer names its Toeplitz coefficients, they are the ones that it multiplies by."""

import pytest
import torch
import torch.nn.functional as F

from mixers import build, card, names
from mixers.ops.toeplitz import toeplitz_matmul

FORMS = [(name, causal) for name in names() for causal in (True, False)]
NAMED = [(name, causal) for name, causal in FORMS if ("causal" if causal else "bidirectional") in card(name).claims]


def built(name: str, causal: bool, length: int):
    torch.manual_seed(0)
    return build(name, 8, causal=causal, length=12, grid=(3, 4)).double(), torch.randn(2, length, 8).double()


@pytest.mark.parametrize("length", [1, 3, 12])
@pytest.mark.parametrize(("name", "causal"), NAMED)
def test_linear_mixers_are_their_coefficients(name: str, causal: bool, length: int):
    mixer, x = built(name, causal, length)
    coefficients = mixer.toeplitz(length)
    if "linear" in card(name).claims and coefficients is not None:
        torch.testing.assert_close(mixer(x), toeplitz_matmul(coefficients, x, causal=causal))
    elif coefficients is not None:
        assert len(coefficients) == (length if causal else 2 * length - 1)


def test_the_mixers_that_name_coefficients():
    found = {name for name, causal in NAMED if built(name, causal, 3)[0].toeplitz(3) is not None}
    assert found >= {"gtu", "gtu_state_space", "tno", "tno_free", "fd_tno", "convolution"}
    assert found >= {"s4", "s4d", "dss", "dss_softmax", "dss_softmax_tnn", "gss"}
    assert not found & {"softmax", "linear_elu", "fnet", "gtu_2d", "ski_tno"}


@pytest.mark.parametrize("causal", [True, False])
def test_s4d_multiplies_by_them_before_its_output_layers(causal: bool):
    mixer, x = built("s4d", causal, 6)
    mixed = toeplitz_matmul(mixer.toeplitz(6), x, causal=causal)
    torch.testing.assert_close(F.glu(mixer.out(F.gelu(mixed)), dim=-1), mixer(x))
