"""The dtype that a layer computes in can be asked for where models are traced, and where they have no storage."""

import pytest
import torch

from mixers import build


@pytest.mark.parametrize("name", ["gtu", "linear_elu", "flash"])
def test_a_row_under_autocast_is_traced_whole(name: str):
    mixer, x = build(name, 16, causal=True, length=30), torch.randn(2, 30, 16)
    traced = torch.compile(mixer, backend="eager", fullgraph=True, dynamic=False)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(traced(x), mixer(x))


def test_the_meta_device_gives_shapes():
    mixer = build("gtu_free", 8, causal=True, length=12).to("meta")
    assert mixer(torch.empty(2, 12, 8, device="meta")).shape == (2, 12, 8)
