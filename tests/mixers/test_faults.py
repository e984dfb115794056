"""The laws are proved: each fault, one edit of a row's real source, breaks the law named, and by no accident."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from mixers import card
from mixers.laws import LAWS, BrokenLaw, Law, Subject, prove
from mixers.laws.check import forms_of
from mixers.registry import load_class

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.mixers.faults import attention, linear, mlp, spectral, state_space, toeplitz
from tests.mixers.faults.fault import Fault
from tests.mixers.rows import EVERY, REGISTRY

FAULTS = [*attention.FAULTS, *linear.FAULTS, *mlp.FAULTS, *spectral.FAULTS, *state_space.FAULTS, *toeplitz.FAULTS]

OPERATORS = ("mixers.ops.circular", "mixers.ops.kernels")
"""Registered with torch once and for all: these are not imported twice."""


def _forget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module be imported anew, until the end of the test."""
    parent, _, leaf = name.rpartition(".")
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules[parent], leaf)


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch):
    """A function that gives a row's class after one edit of one module; what imports that module sees the edit too."""

    def edit(fault: Fault) -> type:
        module, line = importlib.import_module(fault.module), fault.line
        with open(str(module.__file__)) as file:
            source = file.read()
        assert source.count(line) == 1, f"{fault.about}: the line stands {source.count(line)} times in {fault.module}"
        target = card(fault.row, registry=REGISTRY).target
        family, name = target.rsplit(".", 1)
        load_class(target)  # a module first imported with the edit would keep it after the test
        for dependent in [*sys.modules]:  # they are imported again, and then see the edit
            edited = dependent.startswith(("mixers.ops.", f"mixers.{family.split('.')[0]}."))
            if edited and not dependent.startswith(OPERATORS):
                _forget(dependent, monkeypatch)
        changed = type(module)(fault.module)
        monkeypatch.setitem(sys.modules, fault.module, changed)
        exec(compile(source.replace(line, fault.edit), fault.module, "exec"), changed.__dict__)
        parent, _, leaf = fault.module.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], leaf, changed, raising=False)
        return getattr(importlib.import_module(f"mixers.{family}"), name)

    return edit


def prove_every_form(law: Law, subject: Subject) -> None:
    for causal in forms_of(law, subject):
        prove(law, subject, causal, settings(phases=[Phase.generate]))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.row}-{fault.law}-{fault.about}".replace(" ", "_"))
def test_fault_breaks_its_law(fault: Fault, edited):
    row = card(fault.row, registry=REGISTRY)
    subject = Subject.of_class(edited(fault), claims=row.claims, **row.keywords)
    law = LAWS[fault.law]
    with pytest.raises(BrokenLaw, match=f"breaks {law.name} ") as caught:
        prove_every_form(law, subject)
    assert not caught.value.crashed, f"caught by accident: {caught.value}"


def family(name: str) -> str:
    return card(name, registry=REGISTRY).family


def test_every_law_and_every_family_has_a_fault():
    assert {fault.law for fault in FAULTS} == set(LAWS)
    rows = {fault.row for fault in FAULTS}
    assert {family(name) for name in rows} == {family(name) for name in EVERY}
