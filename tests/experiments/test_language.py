"""The language tasks as users run them: trained, killed, continued, scored at other lengths, fine-tuned, estimated."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.config import Run, load, plain
from experiments.errors import UserError
from experiments.files import write_text
from experiments.train import train
from tests.command import COMMAND, mixerzoo
from tests.tasks.language_files import write_glue, write_tokenizer, write_wikitext

SMALL = ["backbone.dim=8", "backbone.depth=1", "train.device=cpu", "train.threads=1", "train.validations=1"]
TOKENS = ["data.length=32", "train.batch=4", "train.accumulate=2", "train.tokens=512"]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXERZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("files")
    text, glue = write_wikitext(home / "raw"), write_glue(home / "glue")
    vocabulary = write_tokenizer(home / "bytes")
    return {"text": f"data.path={text}", "glue": f"data.path={glue}", "bytes": f"data.tokenizer={vocabulary}"}


def run(folder: Path, *arguments: str) -> dict:
    """Train a small run in this process."""
    from omegaconf import OmegaConf

    from experiments.assemble import resolve
    from experiments.train import load_task

    settings = load(Run, [*SMALL, *TOKENS, *arguments])
    write_text(folder / "config.yaml", OmegaConf.to_yaml(plain(resolve(settings, load_task(settings).causal))))
    return train(folder)


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line that a refused command prints, whatever was logged before it."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("mixerzoo: ")
    return line


@pytest.fixture(scope="module")
def masked(tmp_path_factory, files) -> Path:
    """A run of mlm, done."""
    folder = tmp_path_factory.mktemp("mlm")
    run(folder / "gtu-0", "task=mlm", files["text"], files["bytes"], "mixer=gtu")
    return folder


@pytest.mark.parametrize("mixer", ["gtu", "softmax"])
@pytest.mark.parametrize("task", ["wikitext103", "mlm", "glue"])
def test_every_language_task_trains_two_rows(task: str, mixer: str, files, tmp_path: Path):
    data = files["glue" if task == "glue" else "text"]
    result = run(tmp_path, f"task={task}", f"mixer={mixer}", data, files["bytes"])
    assert result["status"] == "done"
    assert result["metric"] in result
    assert bool(result["extrapolation"]) == (task == "wikitext103")
    assert result["flops_per_token"] > 0
    assert (result["state_bytes"] is not None) == (task == "wikitext103")


def test_killed_and_continued_it_ends_bit_for_bit_the_same(files, tmp_path: Path):
    settings = [*SMALL, *TOKENS, "task=wikitext103", "mixer=gtu", files["text"], files["bytes"]]
    settings += ["train.tokens=25600", "train.checkpoint_seconds=0"]
    killed = subprocess.Popen([COMMAND, "train", *settings, "out=killed"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed/checkpoint/training.safetensors"
    while not checkpoint.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed/result.json").exists()
    for out in ("killed", "whole"):
        result = mixerzoo("train", *settings, f"out={out}", folder=tmp_path)
        assert result.returncode == 0, result.stderr
    one, other = (load_file(tmp_path / out / "checkpoint/training.safetensors") for out in ("killed", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_scored_at_other_lengths_and_continues_prompts(files, tmp_path: Path):
    run(tmp_path / "run", "task=wikitext103", "mixer=gtu", files["text"], files["bytes"])
    scored = mixerzoo("extrapolate", "run", "lengths=[32,700]", folder=tmp_path)
    assert scored.returncode == 0, scored.stderr
    kept = json.loads((tmp_path / "run/result.json").read_text())["extrapolation"]
    assert set(kept) == {"32", "700"}
    continued = mixerzoo("generate", "run", "--prompt", "In 2006 £", "--tokens", "5", folder=tmp_path)
    assert continued.stdout.startswith("In 2006 £")


def test_a_run_with_another_tokenizer_is_refused(files, tmp_path: Path):
    vocabulary = write_tokenizer(tmp_path / "bytes")
    run(tmp_path / "run", "task=wikitext103", "mixer=gtu", files["text"], f"data.tokenizer={vocabulary}")
    entries = json.loads((vocabulary / "vocab.json").read_text())
    (vocabulary / "vocab.json").write_text(json.dumps({**entries, "more": len(entries)}))
    line = refused(mixerzoo("generate", "run", folder=tmp_path))
    assert "belongs to other settings" in line
    assert "tokenizer: 257 tokens, sha256" in line
    assert "and 258 tokens, sha256" in line


def test_fine_tuning_begins_with_the_parameters_of_the_other_run(files, masked: Path, tmp_path: Path):
    before = load_file(masked / "gtu-0/checkpoint/training.safetensors")
    start = [f"start={masked}/{{label}}-{{seed}}", "train.learning_rate=1e-12", "train.weight_decay=0"]
    run(tmp_path, "task=glue", files["glue"], files["bytes"], *start)
    after = load_file(tmp_path / "checkpoint/training.safetensors")
    body = [name for name in after if name.startswith(("model.embedding", "model.stack"))]
    assert len(body) > 10
    for name in body:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["mixer=softmax"], "holds no checkpoint; train that run first"),
        (["label=gtu", "mixer=softmax"], r"another mixer than this run \(mixer"),
        (["data.tokenizer=gpt2"], "a tokenizer of 257 tokens, sha256 .*, this run has one of 50,257 tokens"),
        (["backbone.dim=16"], r"of shape \[260, 8\], this run of \[260, 16\]"),
        (["backbone.depth=2"], "of shape nothing, this run of"),
    ],
)
def test_what_does_not_fit_is_refused(settings: list[str], message: str, files, masked: Path, tmp_path: Path):
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, "task=glue", files["glue"], files["bytes"], f"start={masked}/{{label}}-{{seed}}", *settings)
    assert "\n" not in str(caught.value)


def test_a_wrong_start_claims_no_folder(files, masked: Path, tmp_path: Path):
    settings = [*SMALL, *TOKENS, "task=glue", files["glue"], files["bytes"]]
    for start in ("nowhere", f"{masked}/gtu-0 backbone.dim=16"):
        line = refused(mixerzoo("train", *settings, *f"start={start}".split(), "out=here", folder=tmp_path))
        assert "start=" in line
        assert not (tmp_path / "here").exists()
    result = mixerzoo("train", *settings, f"start={masked}/gtu-0", "out=here", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (masked / "gtu-0").rename(tmp_path / "away")
    again = mixerzoo("train", *settings, f"start={masked}/gtu-0", "out=here", folder=tmp_path)
    (tmp_path / "away").rename(masked / "gtu-0")
    assert again.returncode == 0, again.stderr


def test_a_comparison_fine_tunes_each_mixer_from_its_own_run(files, masked: Path, tmp_path: Path):
    settings = [
        *SMALL,
        *TOKENS,
        "task=glue",
        "data.subset=rte",
        files["glue"],
        files["bytes"],
        "mixers=[gtu]",
        "seeds=2",
    ]
    result = mixerzoo("compare", *settings, f"start={masked}/{{label}}-0", "out=here", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "here/results.csv").read_text().startswith("mixer,seed,status,accuracy")
    lost = mixerzoo("compare", *settings, f"start={masked}/{{label}}-{{seed}}", "out=there", folder=tmp_path)
    assert "gtu-1 holds no checkpoint" in refused(lost)
    assert not (tmp_path / "there").exists()


def test_show_prints_recipe_data_and_hours(files, tmp_path: Path):
    settings = [*SMALL, *TOKENS, files["text"], files["bytes"], "train.tokens=100000000"]
    shown = mixerzoo("show", "wikitext103", *settings, folder=tmp_path).stdout
    assert "learning_rate: 0.0005" in shown
    assert "data: WikiText in raw, " in shown
    assert "one run of gtu here: about " in shown
    assert "(781,250 steps, " in shown
    missing = mixerzoo("show", "wikitext103", "data.path=nowhere", folder=tmp_path)
    assert missing.returncode == 0
    assert "weight_decay: 0.2" in missing.stdout
    assert "no estimate: data.path=nowhere is no folder" in missing.stdout
