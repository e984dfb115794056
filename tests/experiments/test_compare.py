"""Comparisons as users run them: killed, continued, failing, refused."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import COMMAND, installed, mixerzoo, refused

TINY = ["task=text", "data.length=32", "data.validation_bytes=500", "data.test_bytes=1000", "backbone.dim=16"]
QUICK = [*TINY, "train.tokens=2048", "train.validations=2", "train.device=cpu"]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("".join(f"line {number}: the square is {number * number}\n" for number in range(3000)))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text: Path) -> Path:
    """A small comparison, done: three seeds of two mixers."""
    folder = tmp_path_factory.mktemp("finished")
    settings = [*QUICK, f"data.path={text}", "mixers=[convolution,{wide: {row: convolution, width: 8}}]", "seeds=3"]
    result = mixerzoo("compare", *settings, "match=parameters", "workers=2", "out=here", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "here"


def test_a_task_in_a_folder_gives_its_runs_one_folder(tmp_path):
    settings = ["backbone.dim=8", "data.length=12", "data.validation=20", "data.test=20", "train.tokens=384"]
    trained = mixerzoo("train", "task=recall/induction", "mixer=convolution", *settings, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["recall-induction-convolution-0"]
    line = refused(mixerzoo("generate", "runs/recall-induction-convolution-0", "--prompt", "a", folder=tmp_path))
    assert "was trained on recall/induction, which generates no text" in line


def test_a_comparison_leaves_what_the_design_names(finished: Path):
    with open(finished / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["mixer"], row["seed"], row["status"]) for row in rows] == [
        (mixer, str(seed), "done") for mixer in ("convolution", "wide") for seed in range(3)
    ]
    for row in rows:
        assert 0 < float(row["bits_per_byte"]) < 9
        for column in ("parameters", "flops_per_token", "state_bytes", "tokens_per_second", "seconds"):
            assert float(row[column]) > 0
    sizes = [int(row["parameters"]) for row in rows]
    assert max(sizes) <= 1.01 * min(sizes)
    for name in ("config.yaml", "report.html", "report.md"):
        assert (finished / name).stat().st_size > 0
    for name in ("config.yaml", "metrics.jsonl", "result.json", "checkpoint"):
        assert (finished / "wide-2" / name).exists()


def test_the_report_states_verdict_and_budget_and_works_offline(finished: Path):
    html = (finished / "report.html").read_text()
    assert "After 2,048 tokens: " in html
    assert "wide" in html
    assert html.count("<svg") >= 5
    assert "order-1 counts" in html
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in html.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
            "http://creativecommons.org/", ""
        ), outside
    assert "| wide |" in (finished / "report.md").read_text()


def test_the_same_command_again_trains_nothing(finished: Path, text: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/checkpoint/*")}
    settings = [*QUICK, f"data.path={text}", "mixers=[convolution,{wide: {row: convolution, width: 8}}]", "seeds=3"]
    result = mixerzoo("compare", *settings, "match=parameters", "workers=2", "out=here", folder=finished.parent)
    assert result.returncode == 0, result.stderr
    assert "6 of 6 runs are done already" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.glob("*/checkpoint/*")} == before


def test_a_folder_of_another_comparison_is_refused(finished: Path, text: Path):
    settings = [*QUICK, f"data.path={text}", "mixers=[convolution]", "seeds=1", "out=here"]
    line = refused(mixerzoo("compare", *settings, folder=finished.parent))
    assert "holds other work (match: parameters and None" in line


def test_other_commands_read_what_a_comparison_left(finished: Path):
    inside = finished.parent
    result = mixerzoo("report", "here", folder=inside)
    assert "After 2,048 tokens" in result.stdout, result.stderr
    result = mixerzoo("extrapolate", "here", "lengths=[16,64]", folder=inside)
    assert result.returncode == 0, result.stderr
    kept = json.loads((finished / "wide-0" / "result.json").read_text())["extrapolation"]
    assert list(kept) == ["16", "64"]
    result = mixerzoo("generate", "here/wide-0", "--prompt", "line", "--tokens", "7", folder=inside)
    assert result.stdout.startswith("line"), result.stderr
    assert mixerzoo("show", "here/wide-0", folder=inside).stdout.count("bits_per_byte") == 1
    assert "After 2,048 tokens" in mixerzoo("show", "here", folder=inside).stdout
    for arguments, message in [
        (["report", "nowhere"], "holds no comparison"),
        (["extrapolate", "here", "lengths=[0]"], "must be of the form lengths="),
        (["generate", "here"], "holds no single run"),
        (["generate", "here/wide-0", "--prompt", ""], "the prompt is empty"),
        (["show", "nothing"], "no mixer, task or finished folder"),
    ]:
        assert message in refused(mixerzoo(*arguments, folder=inside))


def comparison(text: Path) -> list[str]:
    return [
        "compare", *TINY, f"data.path={text}", "mixers=[softmax,s4d]", "seeds=1", "workers=2", "train.tokens=60000",
        "train.checkpoint_seconds=0", "backbone.dropout=0.1", "train.validations=5", "train.device=cpu",
    ]  # fmt: skip


def test_killed_and_started_again_it_ends_bit_for_bit_the_same(tmp_path: Path, text: Path):
    whole = mixerzoo(*comparison(text), "out=whole", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [COMMAND, *comparison(text), "out=cut"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    checkpoints = [
        tmp_path / "cut" / f"{name}-0" / "checkpoint" / "training.safetensors" for name in ("softmax", "s4d")
    ]
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in checkpoints) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cut" / "s4d-0" / "result.json").exists(), "killed too late to show anything"
    again = mixerzoo(*comparison(text), "out=cut", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("softmax", "s4d"):
        one, other = (
            load_file(tmp_path / out / f"{name}-0/checkpoint/training.safetensors") for out in ("whole", "cut")
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        records = []
        for out in ("whole", "cut"):
            lines = (tmp_path / out / f"{name}-0/metrics.jsonl").read_text().splitlines()
            records.append([{**json.loads(line), "seconds": 0} for line in lines])
        assert records[0] == records[1]


DRAWN = """
import os, signal, torch
from mixers.contract import Mixer, fill_pads

class Drawn(Mixer):
    def __init__(self, dim: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(dim))
        self.register_buffer("features", torch.ones(dim))
        self.draws_left = int(os.environ.get("KILLED_AT_DRAW", 0))

    def redraw(self, generator):
        self.draws_left -= 1
        if self.draws_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.features.copy_(torch.rand(self.features.shape, generator=generator))

    def forward(self, x, mask=None):
        return fill_pads(x, mask).cumsum(1) * self.weight * self.features
"""


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_killed_amid_redraws_and_accumulation_it_ends_bit_for_bit_the_same(tmp_path: Path, text: Path, compiled: str):
    (tmp_path / "drawn.py").write_text(DRAWN)
    (tmp_path / "rows.yaml").write_text("drawn: {class: 'drawn:Drawn', about: Random features, claims: [causal]}\n")
    command = [
        "train", *TINY, f"data.path={text}", "registry=rows.yaml", "mixer=drawn", "backbone.depth=1",
        "backbone.dropout=0.1", "train.batch=6", "train.accumulate=3", "train.tokens=2400", "train.redraw=3",
        "train.checkpoint_seconds=0", f"train.compile={compiled}", "train.threads=1", "train.device=cpu",
    ]  # fmt: skip
    assert mixerzoo(*command, "out=whole", folder=tmp_path).returncode == 0
    killed = installed(*command, "out=cut", folder=tmp_path, KILLED_AT_DRAW="2")  # with another seed of hashes
    assert killed.returncode == -signal.SIGKILL
    again = mixerzoo(*command, "out=cut", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    whole, cut = (load_file(tmp_path / out / "checkpoint/training.safetensors") for out in ("whole", "cut"))
    assert len(set(whole["model.stack.blocks.0.mixer.features"].tolist())) > 1
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


BROKEN = """
import torch
from mixers.contract import Mixer

class Broken(Mixer):
    def __init__(self, dim: int, *, after: int = 0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(dim))
        self.calls, self.after = 0, after

    def forward(self, x, mask=None):
        self.calls += self.training
        if self.calls > self.after:
            raise RuntimeError("out of luck")
        return x * self.weight
"""
ROWS = """
broken:
  class: broken_mixers:Broken
  about: Fails in training
  claims: [causal]
"""


def test_a_comparison_goes_on_when_one_run_fails(tmp_path: Path, text: Path):
    (tmp_path / "broken_mixers.py").write_text(BROKEN)
    (tmp_path / "rows.yaml").write_text(ROWS)
    settings = [*QUICK, f"data.path={text}", "registry=rows.yaml", "seeds=1", "out=here"]
    result = mixerzoo("compare", "mixers=[convolution,broken]", *settings, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "broken-0 failed: RuntimeError: out of luck" in result.stdout
    assert "broken-0 failed: RuntimeError: out of luck" in (tmp_path / "here/report.html").read_text()
    with open(tmp_path / "here/results.csv") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "failed"]


def test_a_run_that_diverges_is_a_failed_run(tmp_path: Path, text: Path):
    settings = [*QUICK, f"data.path={text}", "mixers=[convolution]", "seeds=1", "out=here", "train.learning_rate=1e30"]
    result = mixerzoo("compare", *settings, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "is not finite after" in (tmp_path / "here/report.md").read_text()


def test_a_checkpoint_that_was_cut_or_is_of_other_settings_is_refused(tmp_path: Path, text: Path):
    settings = [*QUICK, f"data.path={text}", "out=run"]
    assert mixerzoo("train", "mixer=convolution", *settings, folder=tmp_path).returncode == 0
    file = tmp_path / "run/checkpoint/training.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refused(mixerzoo("generate", "run", folder=tmp_path))
    (tmp_path / "run/result.json").unlink()
    assert "is damaged" in refused(mixerzoo("train", "mixer=convolution", *settings, folder=tmp_path))
    file.write_bytes(whole)
    (tmp_path / "run/config.yaml").write_text(
        (tmp_path / "run/config.yaml").read_text().replace("weight_decay: 0.1", "weight_decay: 0.2")
    )
    assert "belongs to other settings (train.weight_decay: 0.1 and 0.2)" in refused(
        mixerzoo("generate", "run", folder=tmp_path)
    )
    assert "holds other work (train.weight_decay: 0.2 and 0.1)" in refused(
        mixerzoo("train", "mixer=convolution", *settings, folder=tmp_path)
    )


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, text: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    (tmp_path / "file").touch()
    settings = ["compare", *QUICK, f"data.path={text}", "mixers=[convolution]", "seeds=1"]
    line = refused(installed(*settings, "out=mine", folder=tmp_path))  # what it imports prints nothing, either
    assert "not empty and was not written by this command" in line
    assert "cannot write to out=" in refused(mixerzoo(*settings, "out=file/here", folder=tmp_path))
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".lock", "thesis.tex"]


def test_a_full_disk_ends_with_one_line_and_loses_nothing(tmp_path: Path, text: Path):
    """A limit on the size of files stands in for the disk: the checkpoint no longer fits, what is small still does."""
    settings = ["compare", *QUICK, f"data.path={text}", "mixers=[convolution]", "seeds=1", "out=here"]
    full = mixerzoo(*settings, folder=tmp_path, before=_small_files)
    assert "here/convolution-0" in refused(full)
    assert not list((tmp_path / "here").rglob("*.part"))
    assert len((tmp_path / "here/convolution-0/metrics.jsonl").read_text().splitlines()) >= 1
    assert mixerzoo(*settings, folder=tmp_path).returncode == 0


def _small_files() -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
