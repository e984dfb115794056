"""What the README says is so."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.command import installed
from tests.readme import README, example, with_table

ROOT = README.parent


def test_the_table_of_mixers_is_the_registrys():
    assert README.read_text() == with_table(README.read_text()), "run: python -m tests.readme"


def test_the_example_is_short_and_keeps_its_claims(tmp_path: Path):
    assert len(example("python").splitlines()) <= 30
    (tmp_path / "my_mixers.py").write_text(example("python"))
    (tmp_path / "my.yaml").write_text(example("yaml"))
    claims = re.search(r"claims: (\[.*\])", example("yaml"))
    assert claims
    result = installed("check", "my_mixers:ForgetfulMean", f"claims={claims.group(1)}", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "broken" not in result.stdout


def test_the_example_can_be_trained(tmp_path: Path):
    (tmp_path / "my_mixers.py").write_text(example("python"))
    (tmp_path / "my.yaml").write_text(example("yaml"))
    settings = ["registry=my.yaml", "mixer=forgetful_mean", "train.tokens=512", "data.length=16", "out=run"]
    result = installed("train", *settings, folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "run/result.json").exists()


def test_every_file_of_the_tree_exists():
    tree = README.read_text().split("## What lies where")[1]
    found, folder = [], ""
    for indent, entries in re.findall(r"^    ( *)((?:[\w*]+[./][\w/]* *)+)", tree, flags=re.M):
        if not indent:
            folder = entries.strip() if entries.strip().endswith("/") else ""
        found += [(folder if indent else "") + entry for entry in entries.split()]
    assert len(found) > 25
    for path in found:
        assert list(ROOT.glob(path.rstrip("/"))), f"{path} does not exist"


@pytest.mark.parametrize(
    "command", ["list", "show", "train", "compare", "report", "extrapolate", "generate", "convert", "check"]
)
def test_every_command_has_help(command: str):
    result = installed(command, "--help", folder=ROOT)
    assert result.returncode == 0
    assert "usage: mixerzoo" in result.stdout
