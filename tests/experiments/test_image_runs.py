"""Image tasks in training: every task with two rows, averaged parameters, and runs that were cut off."""

import sys
from pathlib import Path

import datasets
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from experiments.assemble import build_model, count_parameters, resolve
from experiments.config import Run, load
from experiments.errors import UserError
from experiments.files import read_json, read_lines
from experiments.machine import settle
from experiments.single import train_one
from experiments.train import Trainer, load_model, load_task

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.tasks.image_files import write_cifar, write_folders, write_tiny

TINY = ["backbone.dim=16", "backbone.depth=2", "train.batch=8", "train.validations=2", "train.device=cpu"]
SMALL = ["data.size=16", "data.patch=4", *TINY]
ROWS = {"gtu_2d": [], "softmax": ["mixer.heads=2"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list[str]]:
    """Settings of each task that point it to small data."""
    home = tmp_path_factory.mktemp("data")
    return {
        "digits": TINY,
        "cifar10": [f"data.path={write_cifar(home / 'cifar')}", "data.validation=4", *TINY],
        "imagenet": [f"data.path={write_folders(home / 'imagenet')}", *SMALL],
        "images": [f"data.path={write_tiny(home / 'tiny')}", *SMALL],
    }


def train(*settings: str) -> None:
    train_one(load(Run, list(settings)), Console(quiet=True))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", ["digits", "cifar10", "imagenet", "images"])
def test_every_task_trains_with_rows_over_grids_and_over_sequences(tmp_path: Path, data, name: str, row: str):
    settings = [f"task={name}", f"mixer={row}", *ROWS[row], *data[name], f"out={tmp_path / 'run'}"]
    tokens = 4 * 8 * load_task(load(Run, settings)).length
    train(*settings, f"train.tokens={tokens}")
    result = read_json(tmp_path / "run" / "result.json")
    assert result["status"] == "done"
    assert result["tokens"] == tokens
    assert 0 <= result["accuracy"] <= 1
    assert ("top5_accuracy" in result) == (name in ("digits", "cifar10"))
    assert result["flops_per_token"] > 0
    assert result["state_bytes"] is None
    assert len(result["dependence"]) == result["length"] == {"digits": 16, "cifar10": 64}.get(name, 16)
    assert [record["step"] for record in read_lines(tmp_path / "run" / "metrics.jsonl")] == [0, 2, 4]


def test_digits_are_learnt(tmp_path: Path):
    settings = ["task=digits", "mixer=gtu_2d", "backbone.dim=32", "train.tokens=30000", "train.validations=1"]
    train(*settings, "train.device=cpu", f"out={tmp_path / 'run'}")
    assert read_json(tmp_path / "run" / "result.json")["accuracy"] > 0.5


AVERAGED = ["task=cifar10", "mixer=gtu_2d", "train.ema=0.9", "train.checkpoint_seconds=0", "backbone.dropout=0.1"]
AVERAGED += ["backbone.drop_path=0.2", f"train.tokens={6 * 8 * 64}"]


def test_a_run_that_was_cut_off_ends_bit_for_bit_the_same(tmp_path: Path, data, monkeypatch):
    """Mixing, augmentation, dropout and the average all go on where they were."""
    settings = [*AVERAGED, *data["cifar10"]]
    train(*settings, f"out={tmp_path / 'whole'}")
    step = Trainer.train_step

    def cut(trainer: Trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(*settings, f"out={tmp_path / 'cut'}")
    monkeypatch.setattr(Trainer, "train_step", step)
    assert not (tmp_path / "cut" / "result.json").exists()
    train(*settings, f"out={tmp_path / 'cut'}")
    one, other = (load_file(tmp_path / name / "checkpoint" / "training.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert any(key.startswith("ema.") for key in one)
    assert all(torch.equal(one[key], other[key]) for key in one)
    whole, again = (read_json(tmp_path / name / "result.json") for name in ("whole", "cut"))
    assert whole["accuracy"] == again["accuracy"]


def averaged(data) -> Trainer:
    run = resolve(load(Run, [*AVERAGED, *data["cifar10"]]), causal=False)
    run.train = settle(run.train, threads=1)
    return Trainer(run, load_task(run), Path("/nonexistent"))


def test_the_average_is_its_formula_and_is_what_is_evaluated(data):
    trainer = averaged(data)
    name = "head.weight"
    expected = trainer.model.get_parameter(name).detach().clone()
    for step in range(1, 6):
        trainer.train_step()
        decay = min(0.9, 1 - step ** (-2 / 3)) if step > 1 else 0.0  # the first average is the first result
        expected = decay * expected + (1 - decay) * trainer.model.get_parameter(name).detach()
    assert trainer.evaluated is not trainer.model
    torch.testing.assert_close(trainer.evaluated.get_parameter(name).detach(), expected)
    assert not torch.equal(expected, trainer.model.get_parameter(name))


def test_a_loaded_run_is_the_average(tmp_path: Path, data):
    train(*AVERAGED, *data["cifar10"], f"out={tmp_path / 'run'}")
    saved = load_file(tmp_path / "run" / "checkpoint" / "training.safetensors")
    _, task, model = load_model(tmp_path / "run")
    assert torch.equal(model.get_parameter("head.weight").detach().cpu(), saved["ema.head.weight"])
    assert not torch.equal(saved["ema.head.weight"], saved["model.head.weight"])
    assert task.evaluate(model, test=True)["accuracy"] == read_json(tmp_path / "run" / "result.json")["accuracy"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_image_ends_a_run_with_one_line(tmp_path: Path, split: str):
    folder = write_folders(tmp_path / "data")
    broken = folder / split / "n00000001" / "n00000001_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    settings = ["task=images", "mixer=fnet", f"data.path={folder}", *SMALL, f"out={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"n00000001_1\.JPEG is no image that can be read"):
        train(*settings, f"train.tokens={6 * 8 * 16}")


def test_an_odd_batch_of_mixed_images_is_the_users(tmp_path: Path, data):
    with pytest.raises(UserError, match=r"train\.batch=7 must be even: mixup and cutmix mix images in pairs"):
        train("task=cifar10", "mixer=fnet", *data["cifar10"], "train.batch=7", f"out={tmp_path / 'run'}")


def test_what_a_mixer_refuses_takes_no_folder(tmp_path: Path):
    with pytest.raises(UserError, match="softmax: heads=3 must divide dim=16"):
        train("task=digits", "mixer=softmax", "mixer.heads=3", *TINY, f"out={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_no_network_is_the_users(tmp_path: Path):
    with pytest.raises(UserError, match=r"cannot load ILSVRC/imagenet-1k from the Hugging Face hub"):
        train("task=imagenet", "mixer=fnet", *SMALL, f"out={tmp_path / 'run'}")


@pytest.mark.parametrize(("size", "millions"), [("tiny", 6.41), ("small", 23.37)])
def test_the_papers_image_models_have_its_parameters(tmp_path: Path, size: str, millions: float):
    """As computed from the released code's shapes; the folder has as many classes as ImageNet."""
    for label in range(1000):
        (tmp_path / "train" / f"n{label:08}").mkdir(parents=True)
        (tmp_path / "train" / f"n{label:08}" / "0.JPEG").write_bytes(b"not decoded here")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "n00000000").symlink_to(tmp_path / "train" / "n00000000")
    run = resolve(load(Run, [f"config=paper/deit_{size}.yaml", f"data.path={tmp_path}"]), causal=False)
    task = load_task(run)
    with torch.device("meta"):
        assert round(count_parameters(build_model(run, task)) / 1e6, 2) == millions
