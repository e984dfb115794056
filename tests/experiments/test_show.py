"""What `mixerzoo show` says of a task before anything is trained."""

import io
from pathlib import Path

import datasets
import pytest
from rich.console import Console

from experiments import show

SMALL = ["backbone.dim=8", "backbone.depth=1", "train.device=cpu", "train.threads=1", "train.batch=2"]


@pytest.mark.parametrize(("name", "count"), [("lra/pathfinder", "200,000"), ("lra/listops", "100,000")])
def test_an_estimate_draws_few_of_the_examples(name: str, count: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    page = io.StringIO()
    show.task(name, SMALL, Console(file=page, width=200))
    assert f"data: {count} examples by the task's rules, drawn when the first run begins" in page.getvalue()
    assert "hours of training" in page.getvalue()
    assert 0 < sum(file.stat().st_size for file in tmp_path.rglob("*.arrow")) < 2**20


@pytest.mark.parametrize(
    ("settings", "sequences"),
    [(["train.batch=6"], "4 sequences"), (["train.batch=2", "train.accumulate=2"], "1 sequence")],
)
def test_tasks_that_mix_images_in_pairs_are_estimated(settings: list[str], sequences: str):
    page = io.StringIO()
    show.task("digits", [*SMALL, "data.mixup=0.8", *settings], Console(file=page, width=200))
    assert f"tokens/s measured with {sequences} a step" in page.getvalue()


def test_an_estimate_leaves_files_and_few_examples_as_they_are(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split in ("train", "val", "test"):
        (tmp_path / f"basic_{split}.tsv").write_text("Source\tTarget\n" + "( ( ( [MAX 2 ) 9 ) ] )\t9\n" * 70)
    page = io.StringIO()
    show.task("lra/listops", [*SMALL, f"data.path={tmp_path}", "data.length=16"], Console(file=page, width=200))
    assert "the released files, 70, 70, 70 lists" in page.getvalue()
    show.task("listops", [*SMALL, "data.train=5", "data.validation=2", "data.test=1"], Console(file=page, width=200))
    assert "data: 8 examples by the task's rules" in page.getvalue()
