"""Every task with every row: a pair trains for a few steps where the row serves the task, and else is refused.

The gate trains each task with two rows and each row with one task, HYPOTHESIS_PROFILE=thorough all pairs. No setting
shortens Long Range Arena's images: a matrix over Path-X's 16,384 tokens takes a gigabyte, a row that trains one takes
eleven at its peak, and all rows with Path-X take twelve minutes of one core.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import tasks
from experiments.assemble import resolve
from experiments.config import Run, load
from experiments.errors import UserError
from experiments.files import read_lines
from experiments.machine import settle
from experiments.train import Trainer, load_task
from mixers import card, names
from tasks.contract import Task
from tests.tasks.small_data import SMALL

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

CAUSAL = {"python", "text", "wikitext103", *(name for name in SMALL if name.startswith("recall/"))}
PIXELS = {"lra/image", "lra/pathfinder", "lra/pathx"}
IMAGES = {"digits", "cifar10", "imagenet", "images", *PIXELS}

STEPS = 3
TINY = ["backbone.dim=16", "backbone.depth=1", "train.batch=2", "train.accumulate=1", "train.validations=1"]
MOVING = ["train.learning_rate=0.01", "train.weight_decay=0", "train.epsilon=1e-20"]
"""Nothing but a gradient moves a parameter, and the smallest does."""

LEAST = ["backbone.dim=8", "train.batch=1"]


def refusal(task: str, row: str) -> str:
    """What must be said of a row that does not serve a task; "" of one that does."""
    form = "causal" if task in CAUSAL else "bidirectional"
    if form not in card(row).claims:
        return f"{row} has no {form} form"
    return f"{row} mixes the places of a grid" if "grid" in card(row).needs and task not in IMAGES else ""


def gate() -> list[tuple[str, str]]:
    """Each task with attention and a gated Toeplitz unit, each further row with one of the short tasks, in turn.

    Attention over Path-X takes half a minute; the unit over its pixels in a row stands for it.
    """
    pairs = [(task, row) for task in SMALL for row in ("softmax", "gtu_2d" if task in IMAGES else "gtu")]
    pairs[pairs.index(("lra/pathx", "softmax"))] = ("lra/pathx", "gtu")
    further = [row for row in names() if row not in {used for _, used in pairs}]
    for turn, row in enumerate(further):
        served = [task for task in SMALL if task not in PIXELS and not refusal(task, row)]
        pairs.append((served[turn % len(served)], row))
    return pairs


EVERY = [(task, row) for task in SMALL for row in names()]
SERVED = [pair for pair in EVERY if not refusal(*pair)]
REFUSED = [pair for pair in EVERY if refusal(*pair)]


def settings(task: str, row: str) -> list[str]:
    """A tiny model that reaches all of its parameters: sequences have several chunks."""
    sizes = {"chunk": 4, "window": 4, **({"heads": 1, "head_dim": 8} if task == "lra/pathx" else {})}
    chosen = [f"mixer.{key}={size}" for key, size in sizes.items() if key in card(row).keywords]
    least = LEAST if task == "lra/pathx" else []
    return [f"task={task}", f"mixer={row}", "train.device=cpu", *TINY, *MOVING, *least, *chosen]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A function that gives a task on small data, and the settings that it was loaded with."""
    from datasets import config

    @cache
    def small(name: str) -> tuple[Task, list[str]]:
        chosen = SMALL[name](tmp_path_factory.mktemp("data"))
        return load_task(load(Run, [f"task={name}", *chosen])), chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXERZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield small


@pytest.fixture
def start(data, tmp_path: Path):
    """A function that makes ready what `mixerzoo train` trains, in a folder that is emptied afterwards."""

    def trainer(name: str, row: str) -> Trainer:
        task, chosen = data(name)
        run = load(Run, [*settings(name, row), *chosen])
        tokens = STEPS * run.train.batch * task.length
        run = resolve(load(Run, [*settings(name, row), *chosen, f"train.tokens={tokens}"]), task.causal)
        return Trainer(dataclasses.replace(run, train=settle(run.train, threads=1)), task, tmp_path)

    yield trainer
    shutil.rmtree(tmp_path)  # checkpoints of Path-X take gigabytes


@pytest.mark.timeout(900)  # of Path-X with matrices over its tokens, beside other work
@pytest.mark.parametrize(("name", "row"), SERVED if THOROUGH else gate())
def test_a_row_trains_on_a_task_that_it_serves(name: str, row: str, start: Callable[[str, str], Trainer]):
    trainer, losses = start(name, row), []
    before = {key: parameter.detach().clone() for key, parameter in trainer.model.named_parameters()}
    trainer.fit(lambda done, total, loss: losses.append(loss))
    result = trainer.result()
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    assert [record["step"] for record in read_lines(trainer.folder / "metrics.jsonl")] == [0, STEPS]
    assert result["status"] == "done"
    assert math.isfinite(result[trainer.task.metric])
    trained = [(key, parameter) for key, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert [key for key, parameter in trained if torch.equal(parameter, before[key])] == []


@pytest.mark.parametrize(("name", "row"), REFUSED)
def test_a_row_is_refused_by_a_task_that_it_does_not_serve(name: str, row: str, start: Callable[[str, str], Trainer]):
    with pytest.raises(UserError, match=refusal(name, row)) as caught:
        start(name, row)
    assert "\n" not in str(caught.value)


def test_the_pairs_are_of_all_tasks_and_rows():
    """The gate's too: each task with two rows, each row with one task."""
    assert {task for task, _ in SERVED} == set(tasks.names())
    assert {row for _, row in SERVED} == set(names())
    assert {row for _, row in gate()} == set(names())
    assert all(len({row for task, row in gate() if task == name}) >= 2 for name in tasks.names())
