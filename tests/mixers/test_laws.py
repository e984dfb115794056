"""Every row that comes with mixerzoo keeps every universal law and every law that it claims."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

from mixers import build, card, names
from mixers.contract import Mixer, fill_pads, state_tensors
from mixers.laws import LAWS, BrokenLaw, Law, Subject, check_mixer, prove
from mixers.laws.check import forms_of, lengths_around
from mixers.laws.table import CLAIMED, COMPILED
from mixers.registry import CLAIMS, IMPLIED

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.mixers.rows import EVERY, REGISTRY

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SUBJECTS = {name: Subject.of_row(name, registry=REGISTRY) for name in EVERY}


def promises() -> list:
    """(row, law, form) for everything that a row must keep."""
    cases = []
    for name, subject in SUBJECTS.items():
        for law in [*LAWS.values(), *([COMPILED] if THOROUGH else [])]:
            if law.claim is None or law.claim in card(name, registry=REGISTRY).claims:
                for causal in forms_of(law, subject):
                    form = "causal" if causal else "bidirectional"
                    cases.append(pytest.param(name, law, causal, id=f"{name}-{law.name}-{form}"))
    return cases


@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.parametrize(("name", "law", "causal"), promises())
def test_row_keeps_law(name: str, law: Law, causal: bool):
    subject = SUBJECTS[name]
    profile = settings(max_examples=1, phases=[Phase.generate]) if law is COMPILED else settings()  # seconds each
    prove(law, subject, causal, profile, lengths=lengths_around(subject.sizes) if THOROUGH else ())


def unclaimed() -> list:
    """(row, law) for the claims that a row does not make, where it has the form that the law speaks of."""
    return [
        pytest.param(name, law, id=f"{name}-{law.name}")
        for name, subject in SUBJECTS.items()
        for law in CLAIMED
        if law.claim not in card(name, registry=REGISTRY).claims and forms_of(law, subject)
    ]


@pytest.mark.parametrize(("name", "law"), unclaimed())
def test_note_where_an_unclaimed_law_holds(name: str, law: Law, record_property):
    """Not a promise: the end of the suite's output shows the note."""
    subject = SUBJECTS[name]
    broken = None
    try:
        for causal in forms_of(law, subject):
            prove(law, subject, causal, settings(phases=[Phase.generate]))
    except BrokenLaw as error:
        broken = error
    assert broken is None or law.name in str(broken)
    if broken is None:
        record_property("note", f"{name} does not claim {law.claim}, and its law holds")


@pytest.mark.parametrize("name", names("step"))
def test_prefill_of_no_tokens_leaves_the_empty_state(name: str):
    mixer = build(name, 8, causal=True, length=40)
    y, state = mixer.prefill(torch.zeros(2, 0, 8))
    assert y.shape == (2, 0, 8)
    for one, other in zip(state_tensors(state), state_tensors(mixer.init_state(2)), strict=True):
        assert torch.equal(one, other)


def test_every_claim_has_a_law():
    assert {law.claim for law in CLAIMED} == set(CLAIMS)


@pytest.mark.parametrize(("claim", "implied"), IMPLIED.items())
def test_implied_claims_are_claimed(claim: str, implied: str):
    assert names(claim)
    assert set(names(claim)) <= set(names(implied))


def test_check_mixer_without_claims_says_which_laws_hold():
    from mixers.toeplitz.convolution import DepthwiseConvolution

    held = {finding.law.name for finding in check_mixer(DepthwiseConvolution) if finding.holds}
    assert held == set(LAWS)


def test_check_mixer_raises_with_the_smallest_example():
    class Leaky(Mixer):
        """Shifts the sequence by one token to the left."""

        def __init__(self, dim: int):
            super().__init__()

        def forward(self, x, mask=None):
            x = fill_pads(x, mask)
            return x + x.roll(-1, dims=1)

    with pytest.raises(BrokenLaw, match=r"Leaky breaks causal \(causal\).*length=\d"):
        check_mixer(Leaky, claims=["causal"])


def test_check_mixer_names_the_nearest_claim():
    with pytest.raises(KeyError, match="did you mean causal"):
        check_mixer(Mixer, claims=["casual"])
