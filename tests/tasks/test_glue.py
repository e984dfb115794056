"""GLUE from the files as they were released, its encoding, its labels and its metrics."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tasks
from tasks import glue_files
from tasks.sentence_task import measure
from tests.tasks.language_files import write_glue, write_tokenizer

SUBSETS = sorted(glue_files.SUBSETS)


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue") / "glue_data")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MIXERZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def load(released: Path, tmp_path: Path):
    vocabulary = write_tokenizer(tmp_path / "bytes")

    def load(subset: str, path: Path = released, **options):
        data = tasks.data_options("glue")
        return tasks.load("glue", data(subset=subset, path=str(path), tokenizer=str(vocabulary), **options))

    return load


class Fixed(nn.Module):
    """Gives the same output for every sequence."""

    def __init__(self, output: list[float]):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, tokens, mask):
        return self.output.expand(len(tokens), -1)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_task_reads_its_archive_and_scores(subset: str, load):
    task = load(subset)
    tokens, labels = task.batch(4, seed=0, step=0)
    assert tokens.shape[0] == len(labels) == 4
    classes = 1 if subset == "stsb" else 3 if subset == "mnli" else 2
    scores = task.evaluate(Fixed([1.0] + [0.0] * (classes - 1)), test=True)
    assert task.metric in scores
    assert task.metric in ("matthews_correlation", "accuracy", "pearson")
    assert all(map(math.isfinite, scores.values()))
    assert set(task.baselines(test=True)) == {"commonest label"}


@pytest.mark.parametrize(
    ("subset", "folder", "train", "held_out"),
    [("cola", "cola_public/raw", 8, 4), ("mrpc", "msr", 8, 4), ("stsb", "stsbenchmark", 12, 6)],
)
def test_the_originals_have_their_own_forms(subset: str, folder: str, train: int, held_out: int, released: Path):
    path = str(released / folder)
    assert len(glue_files.read(subset, "train", path).labels) == train
    examples = glue_files.read(subset, "validation", path)
    assert len(examples.labels) == held_out
    first = {
        "cola": (("Our friends won't buy this analysis.",), 1),
        "mrpc": (('He said "yes', "He said yes ."), 1),
        "stsb": (('A plane is "off .', "A plane takes off ."), 5.0),
    }[subset]
    assert (examples.texts[0], examples.labels[0]) == first


def test_parquet_of_the_hub_is_the_same(released: Path, tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    for subset in SUBSETS:
        spec = glue_files.SUBSETS[subset]
        for split in ("train", *spec.held_out):
            examples = glue_files.read(subset, split, str(released))
            columns = {names[0]: [texts[i] for texts in examples.texts] for i, names in enumerate(spec.texts)}
            columns["label"] = [*examples.labels, -1.0] if spec.classes is None else [*map(int, examples.labels), -1]
            for names in spec.texts:
                columns[names[0]].append("a text without a label")
            (tmp_path / subset).mkdir(exist_ok=True)
            parquet.write_table(pyarrow.table(columns), tmp_path / subset / f"{split}-00000-of-00001.parquet")
            assert glue_files.read(subset, split, str(tmp_path)) == examples


def test_labels_that_are_none_are_left_out(released: Path):
    examples = glue_files.read("mnli", "validation_matched", str(released))
    assert examples.labels == [1, 0, 2]  # of four rows, one is marked "-"


def test_damaged_rows_of_qqp_are_the_known_ones(released: Path, tmp_path: Path, caplog):
    assert len(glue_files.read("qqp", "train", str(released)).labels) == 8
    assert "QQP/train.tsv: 1 rows without all of their columns are left out" in caplog.text
    shutil.copytree(released / "QQP", tmp_path / "QQP")
    with open(tmp_path / "QQP/train.tsv", "a") as file:
        file.write("7\t8\n" * 20)
    assert len(glue_files.read("qqp", "train", str(tmp_path)).labels) == 8
    with open(tmp_path / "QQP/train.tsv", "a") as file:
        file.write("7\t8\n")
    with pytest.raises(
        ValueError, match=r"QQP/train.tsv, row 31 has 2 columns between tabs, and at least 6 are wanted"
    ):
        glue_files.read("qqp", "train", str(tmp_path))


def test_mrpcs_own_files_are_said_to_be_split_otherwise(released: Path, caplog):
    glue_files.read("mrpc", "validation", str(released))
    assert not caplog.records
    glue_files.read("mrpc", "validation", str(released / "msr"))
    assert "msr_paraphrase_test.txt: its own test pairs are scored" in caplog.text


def test_pairs_are_encoded_as_roberta_does(load):
    task = load("rte")
    begin, end = task._special.begin, task._special.begin - 1
    assert end == 256
    tokens = task._sequences["train"][0].tolist()
    assert tokens[0] == begin
    assert tokens[-1] == end
    first, rest = tokens[1 : 1 + len("It rains .")], tokens[1 + len("It rains .") :]
    assert rest[:2] == [end, end]
    assert len(rest) == 2 + len("Rain .") + 1
    assert end not in first
    single = load("cola")._sequences["train"][0].tolist()
    assert (single.count(end), single[-1]) == (1, end)
    assert max(map(len, load("rte", length=9)._sequences["train"])) == 9


def test_metrics_are_glues():
    labels, predicted = np.array([1, 1, 1, 0, 0, 1]), np.array([1, 0, 1, 0, 1, 1])
    assert measure("accuracy", labels, predicted) == pytest.approx(4 / 6)
    assert measure("f1", labels, predicted) == pytest.approx(0.75)
    assert measure("matthews_correlation", labels, predicted) == pytest.approx((3 * 1 - 1 * 1) / (4 * 2 * 4 * 2) ** 0.5)
    x, y = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.1, 0.2, 0.9, 0.8])
    assert measure("pearson", x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert measure("spearman", x, y) == pytest.approx(0.8)
    assert measure("pearson", x, np.ones(4)) == 0


def test_scores_are_learnt_over_the_best(load):
    task = load("stsb")
    tokens, labels = task.batch(12, seed=0, step=0)
    assert labels.max() == 5
    assert task.loss(Fixed([0.0]), (tokens, labels)).item() == pytest.approx((labels / 5).square().mean().item())


@pytest.mark.parametrize(
    ("subset", "name", "content", "message"),
    [
        ("sst2", "SST-2/dev.tsv", None, r"lacks dev.tsv or validation-\*.parquet, there or in SST-2/"),
        ("sst2", "SST-2/dev.tsv", b"", "SST-2/dev.tsv is empty: download it again"),
        (
            "sst2",
            "SST-2/dev.tsv",
            b"text\tlabel\nfilm\t1\n",
            "row 1 has the columns text, label, and sentence, label are",
        ),
        ("sst2", "SST-2/dev.tsv", b"sentence\tlabel\nfilm\t1\nfi", "row 3 has 1 columns between tabs, and at least 2"),
        ("sst2", "SST-2/dev.tsv", b"sentence\tlabel\nfilm\t7\n", "row 2: the label '7' must be one of 0, 1"),
        ("sst2", "SST-2/dev.tsv", b"sentence\tlabel\nfilm\t-1\n", "the validation split of sst2 has no labels"),
        ("sst2", "SST-2/dev.tsv", b"sentence\tlabel\n\xe9t\xe9\t1\n", "row 2: byte 0 is not UTF-8"),
        (
            "cola",
            "CoLA/train.tsv",
            b"gj04\t1\t\tFine.\ngj04\t1\t\tOf cou",
            "row 2: the file ends in the middle of a text",
        ),
        (
            "qqp",
            "QQP/train.tsv",
            b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tHow ?\tWhy ?\t1\n1\t3\t4\tWho",
            "row 3 has 4 columns between tabs, and at least 6 are wanted",
        ),
        ("cola", "CoLA/train.tsv", b"gj04\t1\t\tFine.\ngj04\t1\n", "row 2 has 2 columns between tabs, and at least 4"),
        (
            "stsb",
            "STS-B/train.tsv",
            b"sentence1\tsentence2\tscore\na\tb\t9\n",
            "the score '9' must be a number from 0 to 5",
        ),
    ],
)
def test_damaged_files_get_one_line(
    subset: str, name: str, content: bytes | None, message: str, released: Path, tmp_path: Path, load
):
    folder = tmp_path / "data"
    shutil.copytree(released, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(subset, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["Fine.", None], [1, 0], r"validation-00000-of-00001.parquet, row 2 has no sentence"),
        ([1, 2], [1, 0], r"the column sentence holds int64, and text is wanted"),
        (["Fine.", "Well."], [1, None], r"row 2: the label 'None' must be one of 0, 1"),
    ],
)
def test_damaged_tables_get_one_line(texts: list, labels: list, message: str, tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"sentence": texts, "label": labels})
    parquet.write_table(table, tmp_path / "validation-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=message):
        glue_files.read("cola", "validation", str(tmp_path))


@pytest.mark.parametrize(
    ("split", "lost", "there"), [("validation", "dev.tsv", "train.tsv"), ("train", "train.tsv", "dev.tsv")]
)
def test_the_originals_do_not_stand_in_for_half_of_glues_files(
    split: str, lost: str, there: str, released: Path, tmp_path: Path
):
    """GLUE's development pairs are some of MRPC's own training pairs, and MRPC's test pairs are not among them."""
    shutil.copytree(released / "MRPC", tmp_path / "MRPC")
    shutil.copytree(released / "msr", tmp_path / "MRPC", dirs_exist_ok=True)
    (tmp_path / "MRPC" / lost).unlink()
    with pytest.raises(ValueError, match=f"MRPC holds {there} and lacks {lost}; download it again"):
        glue_files.read("mrpc", split, str(tmp_path))


def test_the_folder_of_another_task_is_refused(released: Path, tmp_path: Path):
    """SST-2 has the columns that CoLA has on the hub."""
    with pytest.raises(ValueError, match=r"SST-2 is the folder of data.subset=sst2, not of data.subset=cola"):
        glue_files.read("cola", "train", str(released / "SST-2"))
    with pytest.raises(ValueError, match="nowhere is no folder; give GLUE's, or the one of CoLA alone"):
        glue_files.read("cola", "train", str(tmp_path / "nowhere"))


def test_unknown_tasks_and_words_are_refused(load):
    with pytest.raises(ValueError, match=r"data.subset=boolq must be one of cola, sst2"):
        load("boolq")
    with pytest.raises(ValueError, match=r"data.tokenizer=words"):
        tasks.load("glue", tasks.data_options("glue")(tokenizer="words"))
