"""The registry finds, describes and builds mixers, and refuses what is wrong in one clear line."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mixers
from mixers import build, card, names
from mixers.contract import Mixer
from mixers.registry import load_class

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.mixers.rows import EVERY, REGISTRY


def public_mixer_classes() -> set[type]:
    """Every public subclass of Mixer that the families define and that is no base of others."""
    found = set()
    for info in pkgutil.walk_packages(mixers.__path__, "mixers."):
        module = importlib.import_module(info.name)
        for name, cls in inspect.getmembers(module, inspect.isclass):
            own = issubclass(cls, Mixer) and cls is not Mixer and cls.__module__ == info.name
            if own and not name.startswith("_") and not cls.__subclasses__():
                found.add(cls)
    return found


def test_every_public_mixer_class_has_a_row():
    assert public_mixer_classes() == {load_class(card(name, registry=REGISTRY).target) for name in EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_constructor_swallows_nothing(name: str):
    parameters = list(inspect.signature(load_class(card(name, registry=REGISTRY).target)).parameters.values())
    assert parameters[0].name == "dim"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[1:])
    assert set(card(name, registry=REGISTRY).keywords) <= {p.name for p in parameters}


@pytest.mark.parametrize("name", EVERY)
def test_causal_is_a_keyword_where_there_are_two_forms(name: str):
    forms = {"causal", "bidirectional"} & set(card(name, registry=REGISTRY).claims)
    assert ("causal" in inspect.signature(load_class(card(name, registry=REGISTRY).target)).parameters) == (
        len(forms) == 2
    )


@pytest.mark.parametrize("name", EVERY)
def test_unclaimed_form_is_refused(name: str):
    for causal, form in ((True, "causal"), (False, "bidirectional")):
        if form in card(name, registry=REGISTRY).claims:
            assert isinstance(build(name, 8, causal=causal, length=12, grid=(3, 4), registry=REGISTRY), Mixer)
        else:
            with pytest.raises(ValueError, match=f"{name} has no {form} form"):
                build(name, 8, causal=causal, registry=REGISTRY)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "sofmax"}, KeyError, "unknown mixer 'sofmax'; did you mean softmax"),
        ({"name": "softmax", "head": 2}, KeyError, "softmax has no keyword 'head'; did you mean heads"),
        ({"name": "softmax", "heads": 3}, ValueError, "softmax: heads=3 must divide dim=8"),
        ({"name": "softmax", "heads": "2"}, ValueError, "softmax: heads='2' must be of type int"),
        ({"name": "softmax", "heads": True}, ValueError, "heads=True must be of type int"),
        ({"name": "gtu", "decay": 0}, ValueError, r"gtu: decay=0 must lie in \(0, 1\]"),
        ({"name": "gtu", "rpe_layers": 1.5}, ValueError, "rpe_layers=1.5 must be of type int"),
        ({"name": "gtu", "dim": 0}, ValueError, "dim=0 must be a whole number of at least 1"),
        ({"name": "s4d", "state": 3}, ValueError, "s4d: state=3 must be even"),
        ({"name": "softmax", "backend": "flash"}, ValueError, "softmax: unknown attention backend 'flash'"),
        ({"name": "gtu", "backend": "ftt"}, ValueError, "gtu: unknown Toeplitz backend 'ftt'"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments: dict, error: type, message: str):
    arguments = {"dim": 8, "causal": True, **arguments}
    name, dim = arguments.pop("name"), arguments.pop("dim")
    with pytest.raises(error, match=message) as caught:
        build(name, dim, **arguments)
    assert "\n" not in str(caught.value)


def test_unknown_claim_is_refused():
    with pytest.raises(KeyError, match="did you mean causal"):
        names("casual")


ROW = """
mine:
  class: my_mixers:Mine
  about: A mixer of mine
  claims: [causal]
"""


def test_rows_of_a_file_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my.yaml").write_text(ROW)
    (tmp_path / "my_mixers.py").write_text(
        "from mixers.contract import Mixer\n"
        "class Mine(Mixer):\n"
        "    def __init__(self, dim, *, width: int = 3):\n"
        "        super().__init__()\n"
        "        self.width = width\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = str(tmp_path / "my.yaml")
    assert names(registry=file) == [*names(), "mine"]
    assert build("mine", 8, causal=True, registry=file, width=5).width == 5


def test_a_constructor_that_fails_gets_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "my.yaml").write_text(ROW.replace("my_mixers", "unlucky_mixers"))
    (tmp_path / "unlucky_mixers.py").write_text("class Mine:\n    def __init__(self, dim):\n        1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot build mine: ZeroDivisionError: division by zero"):
        build("mine", 8, causal=True, registry=str(tmp_path / "my.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gtu:\n  class: a:B\n  about: x\n  claims: []\n", "stands in two registries"),
        (ROW.replace("[causal]", "[casual]"), "unknown word 'casual' in claims; did you mean causal"),
        (ROW.replace("about", "abuot"), "unknown key 'abuot'; did you mean about"),
        (ROW.replace("  about: A mixer of mine\n", ""), "the key 'about' is missing"),
        (ROW.replace("[causal]", "[causal, step]"), "claims step, which implies prefix"),
        (ROW + "  position: left\n", "position 'left' must be one of"),
        ("- a\n", "must map names to rows"),
        ("a: [\n", "cannot read the registry"),
    ],
)
def test_bad_registries_get_one_clear_line(tmp_path, text: str, message: str):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        names(registry=str(tmp_path / "my.yaml"))
    assert "\n" not in str(caught.value)


def test_plug_in_that_fails_to_import_gets_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "broken_plug_in.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot import broken_plug_in:Mine: ModuleNotFoundError"):
        load_class("broken_plug_in:Mine")
    (tmp_path / "exiting_plug_in.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ValueError, match="cannot import exiting_plug_in:Mine: SystemExit: 3"):
        load_class("exiting_plug_in:Mine")
    with pytest.raises(ValueError, match=r"cannot import math:pi: it is no class but 3\.14"):
        load_class("math:pi")
    with pytest.raises(ValueError, match=r"cannot import toeplitz\.gtu\.Nothing: AttributeError"):
        load_class("toeplitz.gtu.Nothing")


def test_the_registry_imports_no_torch():
    code = "import sys, mixers; mixers.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
