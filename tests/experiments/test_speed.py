"""mixerzoo speed: a cell for every mixer and length, whatever becomes of it."""

import csv
import re
from pathlib import Path

import pytest
from rich.console import Console

from experiments.config import Run, Speed, load
from experiments.errors import UserError
from experiments.plan import length_list
from experiments.speed import WARM_UP, Bench, Cell, _measure, speed
from tests.command import installed

TINY = ["backbone.dim=8", "train.batch=2", "train.device=cpu", "train.threads=1"]

MIXERS = """
import os
import signal
import torch
from mixers.contract import Mixer

class Sum(Mixer):
    def __init__(self, dim: int, length: int):
        super().__init__()
        if length > 16:
            raise ValueError(f"length={length} is beyond 16, where this sum ends")
        self.out = torch.nn.Linear(dim, dim)
    def forward(self, x, mask=None):
        return self.out(x.cumsum(1))

class Killed(Sum):
    '''Ends as a process does whose memory the system needs.'''
    def forward(self, x, mask=None):
        os.kill(os.getpid(), signal.SIGKILL)

class Greedy(Sum):
    '''Asks for more memory than there is.'''
    def forward(self, x, mask=None):
        return torch.empty(2**60)

class Faulty(Sum):
    def forward(self, x, mask=None):
        raise RuntimeError("a fault of its own")
"""

ROWS = """
sum: {class: "zoo:Sum", about: A sum, claims: [causal], needs: [length]}
killed: {class: "zoo:Killed", about: Killed, claims: [causal], needs: [length]}
greedy: {class: "zoo:Greedy", about: Greedy, claims: [causal], needs: [length]}
faulty: {class: "zoo:Faulty", about: Faulty, claims: [causal], needs: [length]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("zoo")
    (home / "zoo.py").write_text(MIXERS)
    (home / "my.yaml").write_text(ROWS)
    return home


def cells(*arguments: str, folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of the file that the command writes, by mixer and length."""
    result = installed("speed", *arguments, "registry=my.yaml", "out=speed.csv", *TINY, folder=folder)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    with open(folder / "speed.csv") as file:
        rows = {(row["mixer"], row["length"]): row for row in csv.DictReader(file)}
    assert all(mixer in result.stdout for mixer, _ in rows)
    return rows


def test_every_cell_says_how_fast_or_why_not(folder: Path):
    rows = cells("mixers=[{mine: {row: sum}},killed,greedy,faulty]", "lengths=[16]", folder=folder)
    assert list(rows) == [("mine", "16"), ("killed", "16"), ("greedy", "16"), ("faulty", "16")]
    mine, killed, greedy, faulty = rows.values()
    assert float(mine["steps_per_second"]) > 0
    assert float(mine["tokens_per_second"]) == pytest.approx(float(mine["steps_per_second"]) * 32)
    assert 0 < float(mine["megabytes"]) < 4000
    assert killed["reason"] == greedy["reason"] == "out of memory"
    assert faulty["reason"] == "RuntimeError: a fault of its own"
    assert killed["steps_per_second"] == ""


def test_a_length_that_a_mixer_refuses_shows_why(folder: Path):
    rows = cells("mixers=[sum,fnet]", "lengths=[32]", folder=folder)
    assert rows["sum", "32"]["reason"] == "sum: length=32 is beyond 16, where this sum ends"
    assert rows["fnet", "32"]["reason"].startswith("fnet has no causal form; it claims bidirectional")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixers=[sofmax]"], "unknown mixer 'sofmax'; did you mean softmax"),
        (["lengths=[0]"], "lengths=[0] must be of the form lengths=[512,1024]"),
        (["lengths=512"], "lengths=512 must be of the form lengths=[512,1024]"),
        (["task=digits"], "task=digits has no data.length to be set"),
        (["seeds=3"], "unknown key 'seeds'"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(arguments: list[str], message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        speed(load(Speed, arguments), Console(quiet=True))


def test_the_steps_are_those_of_training():
    run = load(Run, ["mixer=convolution", "data.length=16", "label=x", *TINY])
    found = _measure(run)
    assert found["tokens_per_second"] == pytest.approx(2 * 16 * found["steps_per_second"])
    assert found["megabytes"] >= 0


def test_the_median_leaves_the_warm_up_out():
    bench = object.__new__(Bench)
    bench.seconds = [9.0] * WARM_UP + [0.5, 0.25, 0.5]
    assert bench.steps_per_second() == 2
    bench.seconds = [9.0, 0.5]  # a slow cell, of which two steps were timed
    assert bench.steps_per_second() == 2


def test_cells_are_short():
    assert Cell("gtu", 512, 12.3456, 1.0, 45.6).text() == "12.3/s, 46 MB"
    assert Cell("gtu", 512, 12.3456, 1.0, None).text() == "12.3/s"
    assert Cell("gtu", 512, reason="out of memory").text() == "out of memory"


def test_the_papers_setting_is_one_for_every_row():
    settings = load(Speed, ["config=speed/lengths.yaml"])
    assert settings.mixers is None
    assert length_list(settings.lengths) == [1024, 2048, 3072, 4096, 5120]
    assert (settings.backbone.dim, settings.backbone.depth) == (64, 2)


def test_lengths_are_sorted_and_taken_once():
    assert length_list([32, 16, 32]) == [16, 32]
    with pytest.raises(UserError, match="must be of the form"):
        length_list([True])
