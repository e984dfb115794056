"""What evaluation keeps is never stale: a parameter changes by every road, and the output changes with it."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mixers import build

X = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tno():
    """An operator in eval mode that has kept its coefficients for N = 9 and for decoding."""
    torch.manual_seed(0)
    mixer = build("tno", 4, causal=True, rpe_width=4, rpe_layers=1).eval()
    with torch.no_grad():
        mixer(X)
        mixer.prefill(X)
    assert set(mixer.operator._kept) == {"product", "lags"}
    return mixer


def weight(mixer) -> nn.Parameter:
    return mixer.operator.coefficients.rpe.linears[-1].weight


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def in_place(mixer):
    with torch.no_grad():
        weight(mixer).mul_(2)


def optimizer_step(mixer):
    mixer(X).sum().backward()
    torch.optim.SGD(mixer.parameters(), lr=0.1).step()


def fused_optimizer_step(mixer):
    """It does not count as a write: the forward before it must have dropped what was kept."""
    mixer(X).sum().backward()
    torch.optim.AdamW(mixer.parameters(), lr=0.1, fused=True).step()


def new_storage(mixer):
    weight(mixer).data = 2 * weight(mixer).data


def new_storage_four_times(mixer):
    """The address of the first may come back with the second."""
    for _ in range(4):
        weight(mixer).data = 1.5 * weight(mixer).data


def new_parameter(mixer):
    mixer.operator.coefficients.rpe.linears[-1].weight = nn.Parameter(2 * weight(mixer).detach())


def new_module(mixer):
    mixer.operator.coefficients.rpe.linears[-1] = nn.Linear(4, 4)


def load(mixer):
    mixer.load_state_dict({name: 2 * tensor for name, tensor in mixer.state_dict().items()})


def load_assign(mixer):
    mixer.load_state_dict({name: 2 * tensor for name, tensor in mixer.state_dict().items()}, assign=True)


def load_a_part(mixer):
    rpe = mixer.operator.coefficients.rpe
    rpe.load_state_dict({name: 2 * tensor for name, tensor in rpe.state_dict().items()})


def change_a_buffer(mixer):
    mixer.operator.coefficients.decay.rate.mul_(30)


def parametrised(mixer):
    parametrize.register_parametrization(mixer.operator.coefficients.rpe.linears[-1], "weight", Doubled())


def vector(mixer):
    nn.utils.vector_to_parameters(2 * nn.utils.parameters_to_vector(mixer.parameters()).detach(), mixer.parameters())


def through_data_and_eval(mixer):
    weight(mixer).data.mul_(2)
    mixer.eval()


def moved(mixer):
    mixer.to(torch.float64).to(torch.float32)
    in_place(mixer)


ROADS = [
    in_place,
    optimizer_step,
    fused_optimizer_step,
    new_storage,
    new_storage_four_times,
    new_parameter,
    new_module,
    load,
    load_assign,
    load_a_part,
    change_a_buffer,
    parametrised,
    vector,
    through_data_and_eval,
    moved,
]


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_a_change_is_seen(tno, road):
    with torch.no_grad():
        before = tno(X)
    road(tno)
    with torch.no_grad():
        after, (prefilled, state) = tno(X), tno.prefill(X)
        stepped, _ = tno.step(X[:, 0], state)
    fresh = copy.deepcopy(tno)  # keeps nothing
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, fresh(X))
    torch.testing.assert_close(prefilled, fresh(X))
    torch.testing.assert_close(stepped, fresh(torch.cat([X, X[:, :1]], dim=1))[:, -1])


@pytest.mark.parametrize("drop", ["train", "load_state_dict", "double", "deepcopy", "pickle"])
def test_what_is_kept_is_dropped_and_never_copied(tno, drop):
    if drop == "train":
        tno.train()
    elif drop == "load_state_dict":
        tno.load_state_dict(tno.state_dict())
    elif drop == "double":
        tno.double()
    elif drop == "deepcopy":
        tno = copy.deepcopy(tno)
    else:
        tno = pickle.loads(pickle.dumps(tno))
    assert tno.operator._kept == {}


def test_it_is_kept_while_nothing_changes(tno):
    kept = dict(tno.operator._kept)
    with torch.no_grad():
        tno(X)
        tno.prefill(X)
    assert all(tno.operator._kept[name] is value for name, value in kept.items())


def test_another_length_dtype_or_context_is_computed_anew(tno):
    with torch.no_grad():
        torch.testing.assert_close(tno(X[:, :5]), tno(X)[:, :5])
        torch.testing.assert_close(tno(X.double()).float(), tno(X))
    tno(X).sum().backward()  # with gradients on, nothing kept stands in their way
    assert all(parameter.grad is not None for parameter in tno.parameters())
    tno.train()
    with torch.no_grad():
        tno(X)
    assert tno.operator._kept == {}


def test_what_a_thread_computed_before_a_change_is_not_kept_after_it(tno):
    """The weights change, and another call drops what is kept, while the first still computes."""
    operator = tno.operator

    def compute() -> str:
        in_place(tno)
        with torch.no_grad():
            assert operator.keep("slow", lambda value: True, lambda: "new") == "new"
        return "old"

    with torch.no_grad():
        assert operator.keep("slow", lambda value: True, compute) == "old"
        assert operator.keep("slow", lambda value: True, lambda: "newer") == "new"


def test_nothing_kept_is_saved(tno):
    assert set(tno.state_dict()) == set(build("tno", 4, causal=True, rpe_width=4, rpe_layers=1).state_dict())


def test_parameters_of_inference_mode_are_not_kept():
    with torch.inference_mode():
        mixer = build("tno", 4, causal=True, rpe_width=4, rpe_layers=1).eval()
        before = mixer(X)
        weight(mixer).mul_(2)
        assert not torch.allclose(mixer(X), before)
