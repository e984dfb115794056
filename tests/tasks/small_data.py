"""The smallest data of every task, in the formats in which they are released, and the settings that read it."""

from collections.abc import Callable
from pathlib import Path

from tests.tasks import arena_files
from tests.tasks.image_files import write_cifar, write_folders, write_tiny
from tests.tasks.language_files import write_glue, write_tokenizer, write_wikitext

Write = Callable[[Path], list[str]]
"""Writes what a task reads into a new folder, and gives the settings of a run on it."""

BYTES = ["data.length=16", "data.validation_bytes=64", "data.test_bytes=64"]
DRAWN = ["data.length=16", "data.validation=8", "data.test=8"]
PICTURES = ["data.size=16", "data.patch=4"]


def text(home: Path) -> list[str]:
    file = home / "squares.txt"
    file.write_text("".join(f"the square of {number} is {number * number}\n" for number in range(200)))
    return [f"data.path={file}", *BYTES]


def tokens(home: Path, length: int) -> list[str]:
    vocabulary = write_tokenizer(home / "bytes")
    return [f"data.path={write_wikitext(home / 'raw')}", f"data.tokenizer={vocabulary}", f"data.length={length}"]


def glue(home: Path) -> list[str]:
    vocabulary = write_tokenizer(home / "bytes")
    return [f"data.path={write_glue(home / 'glue')}", f"data.tokenizer={vocabulary}", "data.length=32"]


def arena(home: Path, name: str, *settings: str) -> list[str]:
    arena_files.WRITERS[f"lra/{name}"](home)
    return [f"data.path={home}", *settings]


def pathx(home: Path) -> list[str]:
    arena_files.write_pathfinder(home, size=128, count=5)  # one image to validate on, and one to test on
    return [f"data.path={home}"]


SMALL: dict[str, Write] = {
    "python": lambda home: BYTES,
    "text": text,
    "wikitext103": lambda home: tokens(home, length=16),
    "recall/associative": lambda home: DRAWN,
    "recall/copying": lambda home: [*DRAWN, "data.items=4"],
    "recall/selective_copying": lambda home: [*DRAWN, "data.items=4"],
    "recall/induction": lambda home: DRAWN,
    "mlm": lambda home: tokens(home, length=32),
    "glue": glue,
    "listops": lambda home: [
        "data.minimum_length=4",
        "data.maximum_length=16",
        "data.train=40",
        "data.validation=8",
        "data.test=8",
    ],
    "lra/listops": lambda home: arena(home, "listops", "data.length=16"),
    "lra/text": lambda home: arena(home, "text", "data.bytes=20", "data.length=32"),
    "lra/retrieval": lambda home: arena(home, "retrieval", "data.bytes=20", "data.length=32"),
    "lra/image": lambda home: arena(home, "image"),
    "lra/pathfinder": lambda home: arena(home, "pathfinder"),
    "lra/pathx": pathx,
    "digits": lambda home: ["data.validation=4"],
    "cifar10": lambda home: [f"data.path={write_cifar(home)}", "data.validation=4", "data.patch=8"],
    "imagenet": lambda home: [f"data.path={write_folders(home)}", *PICTURES],
    "images": lambda home: [f"data.path={write_tiny(home)}", *PICTURES],
}
