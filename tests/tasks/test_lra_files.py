"""Long Range Arena's tasks on files that are damaged, changed or missing."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import tasks
from tests.tasks.arena_files import (
    WRITERS,
    pictures,
    png,
    released,
    write_image,
    write_pathfinder,
    write_text,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def spoil(folder: Path, name: str, content: bytes | None) -> None:
    """Give a file another content; None removes it."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


HEADER = b"Source\tTarget\n"
LEVEL = "curv_contour_length_14"
COLOURED = pictures(1, 28, 28, 3)[0]


def cells(**columns: list) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


IMAGES = "plain_text/train-00000-of-00001.parquet"
PICTURE = png(pictures(1, 32, 32, 3)[0])


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("lra/listops", "basic_val.tsv", None, r"basic_val.tsv does not exist; data.path= needs basic_train.tsv"),
        ("lra/listops", "basic_test.tsv", b"", "basic_test.tsv: the header must be Source and Target"),
        ("lra/listops", "basic_test.tsv", HEADER, "basic_test.tsv holds no examples"),
        ("lra/listops", "basic_val.tsv", HEADER + b"( 1 )\t1\n( [MAX 1", r"basic_val.tsv, row 3: 1 columns, not the 2"),
        (
            "lra/listops",
            "basic_val.tsv",
            HEADER + b"( 1 )\t10\n",
            r"row 2: the label is 10, not a whole number from 0 to 9",
        ),
        ("lra/listops", "basic_val.tsv", HEADER + b"( 1 )\tx\n", r"row 2: the label is x, not"),
        ("lra/listops", "basic_val.tsv", HEADER + b"[AVG 1 ]\t1\n", r"row 2: '\[AVG' is no list of digits"),
        ("lra/listops", "basic_val.tsv", HEADER + b"1 " * 40 + b"\t1\n", "row 2: 40 tokens; data.length=32 must be"),
        ("lra/listops", "basic_val.tsv", HEADER + b"\xff\t1\n", "basic_val.tsv, row 2: byte 0 is not valid UTF-8"),
        ("lra/listops", "basic_val.tsv", HEADER + b"( 1 )\t1", "row 2: the file ends in the middle of a row"),
        ("lra/text", "train/pos/1_9.txt", b"caf\xe9", r"1_9.txt: byte 3 is not valid UTF-8; download the file anew"),
        ("lra/text", "test/neg/1_2.txt", b"", r"1_2.txt: the review is empty"),
        ("lra/retrieval", "new_aan_pairs.eval.tsv", None, r"new_aan_pairs.eval.tsv does not exist"),
        (
            "lra/retrieval",
            "new_aan_pairs.eval.tsv",
            b"1\ta\tb\ttext\n",
            r"row 1: 4 columns, not the 5 of label, first id",
        ),
        ("lra/retrieval", "new_aan_pairs.eval.tsv", b"-1\ta\tb\tt\tu\n", r"row 1: the label is -1, not"),
        ("lra/retrieval", "new_aan_pairs.eval.tsv", b"1\ta\tb\tt\t\n", r"row 1: a text is empty"),
        ("lra/retrieval", "new_aan_pairs.eval.tsv", b"1\ta\tb\tt\tu", r"row 1: the file ends in the middle of a row"),
        ("lra/retrieval", "new_aan_pairs.eval.tsv", b"1\ta\tb\tt\tu\xff\n", r"row 1: byte 9 is not valid UTF-8"),
        ("lra/image", IMAGES, None, "has the splits test; it needs train"),
        ("lra/image", IMAGES, b"PAR1 and then nothing", "is damaged or half downloaded"),
        ("lra/image", IMAGES, cells(image=[3.5], label=[1]), "the train split's image holds no images"),
        (
            "lra/image",
            IMAGES,
            cells(img=[{"bytes": png(COLOURED), "path": ""}], label=[1]),
            "row 0 of the train split has 28 x 28",
        ),
        (
            "lra/image",
            IMAGES,
            cells(img=[{"bytes": b"", "path": ""}], label=[1]),
            "row 0 of the train split is an empty image file",
        ),
        (
            "lra/image",
            IMAGES,
            cells(img=[{"bytes": PICTURE[:99], "path": ""}], label=[1]),
            "row 0 of the train split is no whole image",
        ),
        (
            "lra/image",
            IMAGES,
            cells(img=[{"bytes": PICTURE, "path": ""}], label=[-1]),
            "row 0 of the train split has the label -1, which is no class",
        ),
        ("lra/pathfinder", f"{LEVEL}/imgs/1/sample_2.png", None, r"1.npy, row 3: .*sample_2.png does not exist"),
        ("lra/pathfinder", f"{LEVEL}/imgs/1/sample_2.png", b"", r"2 images are empty, .*imgs/0/sample_3.png first"),
        ("lra/pathfinder", f"{LEVEL}/imgs/1/sample_2.png", b"\x89PNG\r\n", r"1/sample_2.png is no whole image"),
        *(
            ("lra/pathfinder", f"{LEVEL}/imgs/1/sample_2.png", content, r"1/sample_2.png is no whole image")
            for content in (b"P5 3x 32 255 ", png(pictures(1, 32, 32)[0], width=2**20))
        ),
        (
            "lra/pathfinder",
            f"{LEVEL}/imgs/1/sample_2.png",
            png(pictures(1, 64, 64)[0]),
            r"sample_2.png has 64 x 64 pixels",
        ),
        ("lra/pathfinder", f"{LEVEL}/metadata/1.npy", b"imgs/1 sample_1.png 1\n", r"1.npy, row 1: 3 fields, not"),
        (
            "lra/pathfinder",
            f"{LEVEL}/metadata/1.npy",
            b"imgs/1 sample_1.png 1 2\n",
            r"1.npy, row 1: the label is 2, not",
        ),
        ("lra/pathfinder", f"{LEVEL}/metadata/1.npy", b"\x93NUMPY\x01", r"1.npy is an array of numpy"),
        (
            "lra/pathfinder",
            f"{LEVEL}/metadata/1.npy",
            b"imgs/1 sample_0.png 0 1 1.0 14\nimgs/1 sample_1.png 1 1",
            r"metadata has no row for .*imgs/1/sample_2.png and 7 others; download the data anew",
        ),
        (
            "lra/pathfinder",
            f"{LEVEL}/metadata/1.npy",
            None,
            r"metadata has no row for .*imgs/1/sample_0.png and 9 others",
        ),
        ("lra/pathfinder", f"{LEVEL}/metadata/1.npy", b"\xff", r"1.npy: byte 0 is not valid UTF-8"),
    ],
)
def test_bad_files_are_one_clear_line(name: str, file: str, content: bytes | None, message: str, tmp_path):
    WRITERS[name](tmp_path)
    spoil(tmp_path, file, content)
    with pytest.raises(ValueError, match=message) as caught:
        released(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"path": "absent"}, "data.path=absent is no folder; give") for name in WRITERS),
        *(
            (name, {}, r"cannot load .* from the Hugging Face hub \(.*\); give .* with data.path=")
            for name in ("lra/text", "lra/image")
        ),
        ("lra/retrieval", {}, r"cannot load data/aan/new_aan_pairs.train.tsv .* with data.path="),
        ("lra/text", {"bytes": 5000}, "data.bytes=5000 must lie between 1 and data.length=4096"),
        ("lra/listops", {"length": 100}, "data.length=100 must hold data.maximum_length=2000 - 1 tokens"),
        ("lra/listops", {"train": 0}, "data.train=0 must be at least 1"),
        ("lra/pathx", {"test": 0}, "data.test=0 must be at least 1"),
    ],
)
def test_data_that_cannot_be_had_is_one_clear_line(name: str, options: dict, message: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        tasks.load(name, tasks.data_options(name)(**options))
    assert "\n" not in str(caught.value)


def test_a_table_of_other_columns_is_one_clear_line(tmp_path):
    write_image(tmp_path)
    for split in ("train", "test"):
        spoil(tmp_path, f"plain_text/{split}-00000-of-00001.parquet", cells(picture=[PICTURE], label=[1]))
    with pytest.raises(ValueError, match="the train split has the columns picture, label; it needs image or img, and"):
        released("lra/image", tmp_path)


def test_labels_that_change_are_read_anew(tmp_path):
    write_pathfinder(tmp_path, empty=())
    before = released("lra/pathfinder", tmp_path)
    for part in range(2):
        table = tmp_path / LEVEL / "metadata" / f"{part}.npy"
        rows = [line.split() for line in table.read_text().splitlines()]
        table.write_text("".join(" ".join([*row[:3], str(1 - int(row[3])), *row[4:]]) + "\n" for row in rows))
    after = released("lra/pathfinder", tmp_path)
    assert (before.train.labels() == 1 - after.train.labels()).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["Dull."], "label": [-1]},
            r"test-00000-of-00001.parquet, row 1: the label is -1, not a whole number",
        ),
        ({"text": ["Dull."], "label": pa.array([None])}, r"row 1: the label is None, not a whole number from 0 to 1"),
        ({"text": ["Dull.", None], "label": [0, 1]}, r"test-00000-of-00001.parquet, row 2 has no text"),
        ({"text": [1], "label": [0]}, r"the column text holds int64, and text is wanted"),
        ({"review": ["Dull."], "label": [0]}, r"has the columns review, label, and text is wanted"),
    ],
)
def test_tables_of_reviews_that_are_damaged_are_one_clear_line(columns: dict, message: str, tmp_path):
    parquet.write_table(pa.table({"text": ["Dull."], "label": [0]}), tmp_path / "train-00000-of-00001.parquet")
    parquet.write_table(pa.table(columns), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=message):
        released("lra/text", tmp_path)


def test_a_folder_above_or_below_the_reviews_is_one_clear_line(tmp_path):
    write_text(tmp_path / "aclImdb")
    for folder in (tmp_path, tmp_path / "aclImdb" / "train"):
        with pytest.raises(
            ValueError, match=r"train/neg does not exist; aclImdb holds .*, the hub's folder train-00000"
        ):
            released("lra/text", folder)


@pytest.mark.parametrize("missing", ["test", "train/neg", "test/pos"])
def test_half_of_the_reviews_are_one_clear_line(missing: str, tmp_path):
    import shutil

    write_text(tmp_path)
    shutil.rmtree(tmp_path / missing)
    with pytest.raises(ValueError, match=r"does not exist; aclImdb holds \{train,test\}/\{pos,neg\}"):
        released("lra/text", tmp_path)
