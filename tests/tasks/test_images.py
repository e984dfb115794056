"""Image tasks: the released formats, and what is wrong with data."""

import os
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tasks import hub
from tasks.contract import DataError
from tasks.image_source import assemble, read
from tests.tasks.image_files import (
    cifar_table,
    colour,
    picture,
    task,
    write_cifar,
    write_cifar_binary,
    write_folders,
    write_tiny,
    write_tiny_parquet,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def true_labels(images) -> bool:
    """Whether every label is what the colour says."""
    return all(
        colour(split.decode(row)) == label
        for split in (images.train, images.test)
        for row, label in enumerate(split.labels)
    )


@pytest.mark.parametrize(
    ("write", "classes", "train", "test"),
    [(write_cifar, 10, 24, 12), (write_folders, 3, 18, 6), (write_tiny, 3, 12, 6), (write_tiny_parquet, 10, 12, 6)],
)
def test_released_formats_are_read_with_their_labels(tmp_path: Path, write, classes: int, train: int, test: int):
    images = read(str(write(tmp_path)), None, "images")
    assert true_labels(images)
    assert (images.classes, len(images.train.labels), len(images.test.labels)) == (classes, train, test)


def test_the_held_out_folder_may_be_called_valid(tmp_path: Path):
    (write_folders(tmp_path) / "val").rename(tmp_path / "valid")
    assert len(read(str(tmp_path), None, "images").test.labels) == 6


def test_a_byte_order_mark_before_annotations_is_no_name(tmp_path: Path):
    annotations = write_tiny(tmp_path) / "val" / "val_annotations.txt"
    annotations.write_bytes(b"\xef\xbb\xbf" + annotations.read_bytes())
    assert true_labels(read(str(tmp_path), None, "images"))


def test_the_hub_and_a_folder_of_its_files_are_read_alike(cifar: Path):
    """`datasets` reads a local repository as it reads one of the hub."""
    one, other = assemble(hub.load(str(cifar)), "hub"), read(str(cifar), None, "cifar10")
    assert one.hash == other.hash
    assert np.array_equal(one.train.labels, other.train.labels)


def test_the_binary_version_of_cifar_is_read(tmp_path: Path):
    images = read(str(write_cifar_binary(tmp_path)), None, "cifar10")
    assert images.classes == 10
    assert (len(images.train.labels), len(images.test.labels)) == (25, 12)
    for split in (images.train, images.test):
        assert [colour(split.decode(row)) for row in range(len(split.labels))] == split.labels.tolist()
    assert task("cifar10", tmp_path, validation=5).batch(4, seed=0, step=0)[0].shape[0] == 4


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "data_batch_3.bin").unlink(), r"data_batch_3\.bin is missing"),
        (lambda folder: (folder / "test_batch.bin").write_bytes(b"x" * 3000), r"test_batch\.bin has 3,000 bytes"),
        (lambda folder: (folder / "test_batch.bin").write_bytes(b"\x0b" * 3073), r"image 0 of .* is of class 11"),
        (
            lambda folder: os.truncate(folder / "data_batch_2.bin", 3 * 3073),
            r"data_batch_2\.bin holds 3 images, and an",
        ),
    ],
)
def test_a_harmed_binary_version_is_refused(tmp_path: Path, harm, message: str):
    write_cifar_binary(tmp_path)
    harm(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path), None, "cifar10")


def test_a_pickle_is_never_read(tmp_path: Path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"whatever")
    with pytest.raises(ValueError, match="is a pickle, which could run anything"):
        read(str(tmp_path), None, "cifar10")


def test_parquet_files_need_not_be_written_by_datasets(tmp_path: Path, cifar: Path):
    for name in ("train", "test"):
        table = pyarrow.parquet.read_table(cifar / "plain_text" / f"{name}-00000-of-00001.parquet")
        pyarrow.parquet.write_table(table.replace_schema_metadata(None), tmp_path / f"{name}.parquet")
    images = read(str(tmp_path), None, "images")
    assert true_labels(images)
    assert images.classes == 6  # no names: as many as the training labels say


def test_imagenet_is_tested_on_its_validation_images(tmp_path: Path):
    """The labels of the hub's test images are all -1."""
    write_cifar(tmp_path)
    (tmp_path / "plain_text" / "test-00000-of-00001.parquet").rename(tmp_path / "validation-00000-of-00001.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "validation-00000-of-00001.parquet")
    hidden = table.set_column(1, "label", pyarrow.array([-1] * 12)).replace_schema_metadata(None)
    pyarrow.parquet.write_table(hidden, tmp_path / "test-00000-of-00001.parquet")
    images = read(str(tmp_path), None, "imagenet")
    assert images.test.name == "validation"
    assert true_labels(images)


def test_hidden_files_are_no_images(tmp_path: Path):
    (write_folders(tmp_path) / "train" / "n00000001" / "._n00000001_0.JPEG").write_bytes(b"what macOS leaves")
    assert len(read(str(tmp_path), None, "images").train.labels) == 18


def test_the_hash_is_of_the_content(tmp_path: Path, folders: Path):
    copy = shutil.copytree(folders, tmp_path / "copy")
    assert read(str(copy), None, "images").hash == read(str(folders), None, "images").hash
    picture(1, 99, (40, 36)).save(copy / "train" / "n00000001" / "n00000001_3.JPEG")
    assert read(str(copy), None, "images").hash != read(str(folders), None, "images").hash


def test_no_network_is_one_clear_line():
    with pytest.raises(ValueError, match=r"cannot load uoft-cs/cifar10 from the Hugging Face hub .* data\.path=FOLDER"):
        task("cifar10")


def test_a_hub_that_does_not_answer_is_told_at_once(monkeypatch):
    """No name server answers for .invalid, so nothing is asked of anybody."""
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    start = time.monotonic()
    with pytest.raises(ValueError, match="cannot load uoft-cs/cifar10 from the Hugging Face hub"):
        hub.load("uoft-cs/cifar10")
    assert time.monotonic() - start < 10


def test_the_cause_is_the_first_sentence_of_the_first_error():
    error = ValueError("it failed")
    error.__cause__ = OSError(
        "cannot reach hub.invalid:\n offline mode is enabled. To disable it, unset HF_HUB_OFFLINE"
    )
    assert hub.cause(error) == "cannot reach hub.invalid: offline mode is enabled"
    assert hub.cause(OSError()) == "OSError"


def damage(root: Path, what: str) -> None:
    """Do to an ImageNet folder what happens to downloads."""
    file = root / "train" / "n00000001" / "n00000001_2.JPEG"
    if what == "no val":
        shutil.rmtree(root / "val")
    elif what == "no classes":
        shutil.rmtree(root / "train")
        (root / "train").mkdir()
    elif what == "empty class":
        for image in file.parent.iterdir():
            image.unlink()
    elif what == "strange class":
        (root / "val" / "n00000001").rename(root / "val" / "n00000009")
    elif what == "empty image":
        file.write_bytes(b"")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no val", "neither parquet files nor the folders train and val"),
        ("no classes", r"train holds no folder of a class; images lie in train/<class>/"),
        ("empty class", r"n00000001 holds no image"),
        ("strange class", r"val/n00000009 is no class of the training images; they know n00000000, n00000001"),
        ("empty image", r"n00000001_2\.JPEG is an empty image file"),
    ],
)
def test_damaged_folders_get_one_clear_line(tmp_path: Path, what: str, message: str):
    damage(write_folders(tmp_path), what)
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path), None, "images")


def rewrite(root: Path, what: str) -> None:
    """Do to CIFAR's parquet files what happens to them."""
    train, test = (root / "plain_text" / f"{name}-00000-of-00001.parquet" for name in ("train", "test"))
    if what == "truncated":
        train.write_bytes(train.read_bytes()[:-100])
    elif what == "half there":
        train.rename(train.with_name("train-00000-of-00002.parquet"))
    elif what == "no test":
        test.unlink()
    elif what == "other names":
        train.rename(train.with_name("a.parquet"))
        test.unlink()
    elif what == "wrong column":
        cifar_table([0, 1], column="picture").to_parquet(train)
    elif what == "no images":
        datasets.Dataset.from_dict({"img": [1.5, 2.5], "label": [0, 1]}).to_parquet(train)
    elif what == "words":
        table = pyarrow.parquet.read_table(test).set_column(1, "label", pyarrow.array(["cat"] * 12))
        for file in (train, test):
            pyarrow.parquet.write_table(table.replace_schema_metadata(None), file)
    elif what == "label -1":
        labels = pyarrow.array([0, 1, -1] + [0] * 9)
        table = pyarrow.parquet.read_table(test).set_column(1, "label", labels)
        for file in (train, test):
            pyarrow.parquet.write_table(table.replace_schema_metadata(None), file)
    elif what == "other size":
        cifar_table([0, 1], size=(64, 48)).to_parquet(train)
    elif what == "no image":
        images = pyarrow.array([None] * 12, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(test).set_column(0, "img", images), test)
    elif what == "no rows":
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(test).slice(0, 0), test)
    elif what == "empty image":
        images = [{"bytes": b"", "path": None}] * 12
        table = pyarrow.parquet.read_table(test).set_column(0, "img", pyarrow.array(images))
        pyarrow.parquet.write_table(table, test)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("truncated", r"train-00000-of-00001\.parquet is damaged or half downloaded"),
        ("half there", r"holds 1 of the 2 parquet files of the train split; download the rest"),
        ("no test", r"has the splits train; it needs train, and one of validation, valid, val, test"),
        ("other names", r"holds no parquet file called as on the hub"),
        ("wrong column", r"the train split has the columns picture, label; it needs image or img, and label"),
        ("no images", r"the train split's img holds no images"),
        ("words", r"the train split's label is string; it must be a class's number"),
        ("label -1", r"row 2 of the train split has the label -1, which is no class: -1 says that its labels are not"),
        ("other size", r"row 0 of the train split has 64 x 48 pixels; this task is for 32 x 32"),
        ("empty image", r"row 0 of the test split is an empty image file"),
        ("no image", r"/plain, row 0 of the test split is an empty image file"),
        ("no rows", r"test-00000-of-00001\.parquet holds no rows; download it again"),
    ],
)
def test_damaged_parquet_files_get_one_clear_line(tmp_path: Path, what: str, message: str):
    rewrite(write_cifar(tmp_path / "plain"), what)
    with pytest.raises(ValueError, match=message):
        task("cifar10", tmp_path / "plain")


def test_one_image_of_another_size_is_named(tmp_path: Path):
    file = write_cifar(tmp_path) / "plain_text" / "train-00000-of-00001.parquet"
    images = pyarrow.parquet.read_table(file).to_pydict()
    images["img"][7] = cifar_table([1], size=(28, 30)).with_format("arrow")[0]["img"][0].as_py()
    table = pyarrow.table(images, schema=pyarrow.parquet.read_schema(file))
    pyarrow.parquet.write_table(table, file)
    found = task("cifar10", tmp_path, validation=4)
    with pytest.raises(DataError, match=r"row 7 of the train split has 28 x 30 pixels; this task is for 32 x 32"):
        [found.batch(20, seed=0, step=step) for step in range(2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_1.JPEG\tn99999999\t0\t0\t1\t1", r"line 2 .* names no class of train"),
        ("val_0.JPEG\tn00000002\t0\t0\t1\t1", r"line 2 .* names no file of images, or one named before"),
        ("val_1.JPEG", r"line 2 .* names no class of train"),
        (None, r"names no class of val_1\.JPEG, which lies in"),
    ],
)
def test_damaged_annotations_get_one_clear_line(tmp_path: Path, line: str | None, message: str):
    annotations = write_tiny(tmp_path) / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines()
    lines[1:2] = [] if line is None else [line]
    annotations.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path), None, "images")


def test_validation_images_may_be_moved_into_their_classes(tmp_path: Path):
    """As many scripts do, and leave the annotations."""
    val = write_tiny(tmp_path) / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (val / wnid / "images").mkdir(parents=True, exist_ok=True)
        (val / "images" / name).rename(val / wnid / "images" / name)
    (val / "images").rmdir()
    images = read(str(tmp_path), None, "images")
    assert true_labels(images)
    assert len(images.test.labels) == 6


def test_annotations_that_are_no_text_get_one_clear_line(tmp_path: Path):
    (write_tiny(tmp_path) / "val" / "val_annotations.txt").write_bytes(b"val_0.JPEG\t\xff\xfe\n")
    with pytest.raises(ValueError, match=r"val_annotations\.txt is no UTF-8 text"):
        read(str(tmp_path), None, "images")


@pytest.mark.parametrize("loaders", [0, 2])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, loaders: int):
    broken = write_folders(tmp_path) / "train" / "n00000001" / "n00000001_2.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    found = task("images", tmp_path, size=16, patch=8, loaders=loaders, mixup=0.0, cutmix=0.0)
    with pytest.raises(DataError, match=r"n00000001_2\.JPEG is no image that can be read \(.*\); download it again"):
        [found.batch(6, seed=0, step=step) for step in range(3)]


def test_what_is_no_image_at_all_is_said_in_words(tmp_path: Path):
    pointer = write_folders(tmp_path) / "train" / "n00000001" / "n00000001_2.JPEG"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    images = read(str(tmp_path), None, "images")
    with pytest.raises(DataError, match=r"n00000001_2\.JPEG is no image that can be read \(of no known format\)"):
        [images.train.decode(row) for row in range(len(images.train.labels))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, r"data\.size=30 must be a multiple of data\.patch=4"),
        ({"patch": 0}, r"data\.patch=0 must be at least 1"),
        ({"validation": 24}, r"data\.validation=24 leaves nothing of 24 training images"),
        ({"validation": -1}, r"data\.validation=-1 must be at least 0"),
        ({"flip": 2.0}, r"data\.flip=2\.0 must lie between 0 and 1"),
        ({"smallest_crop": 0.0}, r"data\.smallest_crop=0\.0 must be above 0"),
        ({"augment": "randd"}, r"data\.augment=randd is no auto_augment of timm"),
    ],
)
def test_options_out_of_range_get_one_clear_line(cifar: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        task("cifar10", cifar, **{"validation": 4, **options})


def test_the_other_tasks_say_what_path_they_want(tmp_path: Path):
    with pytest.raises(ValueError, match=r"task=images needs data\.path="):
        task("images")
    with pytest.raises(ValueError, match="is no folder"):
        task("imagenet", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="reads scikit-learn's digits, not"):
        task("digits", tmp_path)
