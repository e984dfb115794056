"""list, show and check, and the wheel."""

import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from mixers import card, names
from tests.command import ROOT, mixerzoo, refused


def test_list_shows_every_row():
    listed = mixerzoo("list").stdout
    assert all(name in listed for name in names())
    assert all(card(name).paper.split("/")[-1] in listed for name in names())
    assert "constant_state" in listed
    assert "…" not in listed
    assert "gtu" not in mixerzoo("list", "softmax*").stdout
    assert "did you mean softmax" in refused(mixerzoo("list", "sofmax"))


def test_list_imports_no_torch():
    code = "import sys; sys.argv = ['mixerzoo', 'list']; from experiments.commands import main; main(); "
    heavy = "['torch', 'timm', 'datasets', 'matplotlib', 'xformers', 'hypothesis']"
    code += f"sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_show_tells_of_mixers_and_tasks():
    shown = mixerzoo("show", "gtu").stdout
    assert "rpe_width=64" in shown
    assert "arxiv.org/abs/2305.04749" in shown
    recipe = mixerzoo("show", "python").stdout
    assert "learning_rate: 0.004" in recipe
    assert "length: 256" in recipe
    assert "did you mean gtu" in refused(mixerzoo("show", "gtuu"))


MIXERS = """
import torch
from torch import nn
from mixers.contract import Mixer, fill_pads

class Good(Mixer):
    def __init__(self, dim: int, *, heads: int = 2):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
    def forward(self, x, mask=None):
        return fill_pads(x, mask).cumsum(1) * self.weight

class Leaky(Good):
    def forward(self, x, mask=None):
        x = fill_pads(x, mask)
        return (x.cumsum(1) + 1e-6 * x.flip(1).cumsum(1).flip(1)) * self.weight

class LeaksLate(Good):
    '''Wrong beyond a hidden chunk of 64 tokens.'''
    def forward(self, x, mask=None):
        x = fill_pads(x, mask)
        return torch.cat([part.cumsum(1) + part.flip(1).cumsum(1).flip(1) * (i > 0)
                          for i, part in enumerate(x.split(64, 1))], 1) * self.weight

class Statistic(Good):
    def forward(self, x, mask=None):
        x = fill_pads(x, mask)
        return x.cumsum(1) * self.weight / (1 + x.abs().amax(1, keepdim=True)).detach()

class BatchNorm(Good):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.norm = nn.BatchNorm1d(dim)
    def forward(self, x, mask=None):
        return self.norm(super().forward(x, mask).transpose(1, 2)).transpose(1, 2)

class NeedsMore(Good):
    def __init__(self, dim: int, secret: int):
        super().__init__(dim)

class NotAMixer(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
"""

ROWS = """
good: {class: "zoo:Good", about: A running sum, claims: [causal, prefix], keywords: {heads: 5}}
leaky: {class: "zoo:Leaky", about: Not what it claims, claims: [causal]}
lost: {class: "broken:Mixer", about: Cannot be imported, claims: [causal]}
"""


@pytest.fixture(scope="module")
def plug_ins(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plug_ins")
    (folder / "zoo.py").write_text(MIXERS)
    (folder / "broken.py").write_text("import no_such_library\n")
    (folder / "my.yaml").write_text(ROWS)
    return folder


def test_check_passes_a_good_mixer(plug_ins: Path):
    result = mixerzoo("check", "zoo:Good", "claims=[causal,prefix,linear,any_length]", "heads=3", folder=plug_ins)
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_without_claims_says_what_holds(plug_ins: Path):
    result = mixerzoo("check", "zoo:Good", folder=plug_ins)
    assert result.returncode == 0, result.stdout + result.stderr
    held = [line.split()[0] for line in result.stdout.splitlines() if "holds, not claimed" in line]
    assert held == [
        "causal",
        "every_cut",
        "narrow_causal",
        "autocast_causal",
        "prefix",
        "any_length",
        "padding",
        "linear",
        "shift",
    ]


@pytest.mark.parametrize(
    ("target", "law"),
    [("Leaky", "causal"), ("LeaksLate", "causal"), ("Statistic", "causal"), ("BatchNorm", "batch")],
)
def test_check_finds_broken_laws(plug_ins: Path, target: str, law: str):
    line = refused(mixerzoo("check", f"zoo:{target}", "claims=[causal]", folder=plug_ins))
    assert f"{target} breaks " in line
    assert f" {law}" in line
    assert "length=" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:M:"], "cannot import zoo:M:: AttributeError"),  # which is no emoji
        (["zoo:Absent"], "cannot import zoo:Absent: AttributeError"),
        (["broken:Mixer"], "cannot import broken:Mixer: ModuleNotFoundError: No module named 'no_such_library'"),
        (["zoo:NeedsMore"], "cannot build NeedsMore(dim=8): TypeError"),
        (["zoo:NotAMixer"], "NotAMixer must be a subclass of mixers.contract.Mixer"),
        (["zoo:Good", "claims=[casual]"], "unknown claim 'casual'; did you mean causal"),
        (["zoo:Good", "claims=causal"], "claims=causal must be a list"),
        (["zoo:Good", "head=2"], "Good has no keyword 'head'; did you mean heads"),
        (["zoo:Good", "dim=0"], "dim=0 must be a whole number of at least 1"),
        (["zoo:Good", "heads"], "'heads' is not of the form key=value"),
        (["gtuu"], "'gtuu' is no mixer's name, nor package.module:Class; did you mean gtu"),
        (["softmax", "heads=3"], "heads=3 must divide dim=8"),
    ],
)
def test_check_refuses_bad_input_in_one_line(plug_ins: Path, arguments: list[str], message: str):
    assert message in refused(mixerzoo("check", *arguments, folder=plug_ins))


def test_list_show_and_check_take_rows_of_a_file(plug_ins: Path):
    listed = mixerzoo("list", "g*", "registry=my.yaml", folder=plug_ins).stdout.split()
    assert {"gtu", "good"} <= set(listed)
    assert "leaky" not in listed
    shown = mixerzoo("show", "good", "registry=my.yaml", folder=plug_ins).stdout
    assert "A running sum" in shown
    assert "heads=5" in shown
    result = mixerzoo("check", "good", "registry=my.yaml", folder=plug_ins)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "leaky breaks causal" in refused(mixerzoo("check", "leaky", "registry=my.yaml", folder=plug_ins))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "registry=absent.yaml"], "cannot read the registry absent.yaml"),
        (["list", "goof", "registry=my.yaml"], "did you mean good"),
        (["show", "goof", "registry=my.yaml"], "did you mean good"),
        (["show", "lost", "registry=my.yaml"], "cannot import broken:Mixer"),
        (["show", "good", "regstry=my.yaml"], "'regstry=my.yaml' is not of the form registry=FILE.yaml"),
        (["check", "goof", "registry=my.yaml"], "did you mean good"),
        (["check", "lost", "registry=my.yaml"], "cannot import broken:Mixer"),
        (["check", "good", "registry=absent.yaml"], "cannot read the registry absent.yaml"),
    ],
)
def test_rows_that_are_not_there_get_one_clear_line(plug_ins: Path, arguments: list[str], message: str):
    assert message in refused(mixerzoo(*arguments, folder=plug_ins))


def test_the_wheel_runs_beside_decoys(tmp_path: Path):
    """Installed without dependencies beside this environment's, in a folder with other tasks/ and experiments/."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "no_editable.pth").write_text(f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n")
    for decoy in ("tasks", "experiments", "mixers"):
        (tmp_path / "work" / decoy).mkdir(parents=True)
        (tmp_path / "work" / decoy / "__init__.py").write_text("raise ImportError('a decoy was imported')\n")
    start = time.monotonic()
    result = subprocess.run(
        [tmp_path / "venv/bin/mixerzoo", "list"], cwd=tmp_path / "work", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in names())
    assert time.monotonic() - start < 30
    (tmp_path / "work/words.txt").write_text("".join(f"the square of {n} is {n * n}\n" for n in range(300)))
    settings = [
        "task=text",
        "data.path=words.txt",
        "data.length=32",
        "data.validation_bytes=200",
        "data.test_bytes=200",
    ]
    settings += ["mixers=[convolution]", "seeds=1", "backbone.dim=8", "train.tokens=512", "train.device=cpu"]
    compared = subprocess.run(  # its worker is a process of its own, which must not meet the decoys either
        [tmp_path / "venv/bin/mixerzoo", "compare", *settings, "out=here"],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 0, compared.stderr
    assert '"status": "done"' in (tmp_path / "work/here/convolution-0/result.json").read_text()
    where = "import mixers.registry as r; print(r._home())"
    home = subprocess.run(
        [python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert home == str(site / "mixers" / "registry.yaml")
