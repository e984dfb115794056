"""Small image data sets in the formats in which they are released: every class has a colour of its own."""

from pathlib import Path

import numpy as np
from PIL import Image

import tasks
from tasks.image_classification import ImageClassification

COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (220, 220, 30), (30, 220, 220), (220, 30, 220)]


def picture(label: int, number: int, size: tuple[int, int]) -> Image.Image:
    """An image in the class's colour, with noise."""
    noise = np.random.default_rng((label, number)).integers(-30, 30, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8))


def colour(image: Image.Image) -> int:
    """The class that an image's colour tells."""
    mean = np.asarray(image).reshape(-1, 3).mean(0)
    return int(np.abs(np.array(COLOURS) - mean).sum(1).argmin())


def cifar_table(labels: list[int], column: str = "img", size: tuple[int, int] = (32, 32)):
    import datasets

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=names)})
    images = [picture(label, number, size) for number, label in enumerate(labels)]
    return datasets.Dataset.from_dict({column: images, "label": labels}, features=features)


def write_cifar(root: Path, *, train: int = 24, test: int = 12) -> Path:
    """uoft-cs/cifar10 as on the hub: plain_text/{train,test}-00000-of-00001.parquet of img and label."""
    folder = root / "plain_text"
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        cifar_table([number % 6 for number in range(count)]).to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return root


def write_tiny_parquet(root: Path) -> Path:
    """zh-plus/tiny-imagenet as on the hub: data/{train,valid}-00000-of-00001-<digits>.parquet of image and label."""
    (root / "data").mkdir(parents=True)
    for name, count, digits in (("train", 12, "1359597a978bc4fa"), ("valid", 6, "70d52db3c749a935")):
        table = cifar_table([number % 3 for number in range(count)], column="image", size=(64, 64))
        table.to_parquet(root / "data" / f"{name}-00000-of-00001-{digits}.parquet")
    return root


def write_cifar_binary(root: Path, *, train: int = 25, test: int = 12) -> Path:
    """CIFAR-10's binary version: cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, count in [*((f"data_batch_{number}", train // 5) for number in range(1, 6)), ("test_batch", test)]:
        with open(folder / f"{name}.bin", "wb") as file:
            for number in range(count):
                label = number % 6
                planes = np.asarray(picture(label, number, (32, 32))).transpose(2, 0, 1)  # all of red first
                file.write(bytes([label]) + planes.tobytes())
    return root


def write_folders(root: Path, *, train: int = 6, val: int = 2, size: tuple[int, int] = (40, 36)) -> Path:
    """ImageNet as it is extracted: {train,val}/<wnid>/<wnid>_<number>.JPEG, of three classes."""
    for split, count in (("train", train), ("val", val)):
        for label in range(3):
            folder = root / split / f"n0000000{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                picture(label, number, size).save(folder / f"{folder.name}_{number}.JPEG")
    return root


def write_tiny(root: Path, *, train: int = 4, val: int = 6) -> Path:
    """Tiny-ImageNet-200: train/<wnid>/images/ with a file of boxes beside, val/images/ and val/val_annotations.txt."""
    for label in range(3):
        wnid = f"n0000000{label}"
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for number in range(train):
            picture(label, number, (64, 64)).save(folder / f"{wnid}_{number}.JPEG")
        boxes = [f"{wnid}_{number}.JPEG\t0\t0\t62\t62\n" for number in range(train)]
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for number in range(val):
        label = (number * 2) % 3
        picture(label, number, (64, 64)).save(root / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\tn0000000{label}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "test" / "images").mkdir(parents=True)  # without labels
    picture(0, 0, (64, 64)).save(root / "test" / "images" / "test_0.JPEG")
    (root / "wnids.txt").write_text("n00000000\nn00000001\nn00000002\n")
    return root


def task(name: str, path: Path | str = "", **options) -> ImageClassification:
    """A task on the files of `path`."""
    return tasks.load(name, tasks.data_options(name)(path=str(path), **options))  # pyright: ignore[reportReturnType]
