"""Long Range Arena's data sets in the formats in which they are released, as small as they can be."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

import tasks


def png(pixels: np.ndarray, width: int | None = None) -> bytes:
    """The file of an image; one with another `width` says something false about itself."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    content = bytearray(file.getvalue())
    if width is not None:
        content[16:20] = content[20:24] = width.to_bytes(4, "big")
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def pictures(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


LISTS = [
    ("( ( ( ( [MAX 2 ) 9 ) 0 ) ] )", 9),
    ("( ( ( ( ( [SM 8 ) ( ( ( [MED 1 ) 6 ) ] ) ) 3 ) 0 ) ] )", 4),
    ("( ( ( [MIN 4 ) ( ( ( [MAX 5 ) 7 ) ] ) ) ] )", 4),
]


def write_listops(folder: Path) -> None:
    for name in ("train", "val", "test"):
        rows = "".join(f"{source}\t{target}\n" for source, target in LISTS)
        (folder / f"basic_{name}.tsv").write_text("Source\tTarget\n" + rows)


REVIEWS = {"neg": "Dull. <br /><br />One star — no more.", "pos": "A joy, café scene above all.\n"}


def write_text(folder: Path) -> None:
    for split in ("train", "test"):
        for index, (name, text) in enumerate(REVIEWS.items()):
            (folder / split / name).mkdir(parents=True)
            for number in range(3):
                (folder / split / name / f"{number}_{7 * index + 2}.txt").write_bytes(f"{number} {text}".encode())
    (folder / "train" / "unsup").mkdir()
    (folder / "train" / "unsup" / "0_0.txt").write_text("never read")


def write_retrieval(folder: Path) -> None:
    for name in ("train", "eval", "test"):
        rows = [
            (label, f"P0{row}", f"Q0{row}", f'the "first" paper {row}', f"the second, {row}")
            for row, label in enumerate("1010")
        ]
        (folder / f"new_aan_pairs.{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))


def write_image(folder: Path) -> None:
    (folder / "plain_text").mkdir()
    for split, count in (("train", 20), ("test", 5)):
        cells = [
            {"bytes": png(picture), "path": f"{row}.png"} for row, picture in enumerate(pictures(count, 32, 32, 3))
        ]
        table = pa.table({"img": cells, "label": [row % 10 for row in range(count)]})
        parquet.write_table(table, folder / "plain_text" / f"{split}-00000-of-00001.parquet")


def write_pathfinder(folder: Path, *, size: int = 32, count: int = 10, empty: tuple[int, ...] = (3,)) -> None:
    """Two parts of `count` images each; the fourth of the first part is empty, as one of the release is."""
    level = folder / "curv_contour_length_14"
    (level / "metadata").mkdir(parents=True)
    for part in range(2):
        (level / "imgs" / str(part)).mkdir(parents=True)
        lines = []
        for row, picture in enumerate(pictures(count, size, size)):
            content = b"" if part == 0 and row in empty else png(picture)
            (level / "imgs" / str(part) / f"sample_{row}.png").write_bytes(content)
            lines.append(f"imgs/{part} sample_{row}.png {row} {row % 2} 1.0 14 4 2 0.5 1 1\n")
        (level / "metadata" / f"{part}.npy").write_text("".join(lines))


def write_pathx(folder: Path) -> None:
    write_pathfinder(folder, size=128)


WRITERS: dict[str, Callable[[Path], None]] = {
    "lra/listops": write_listops,
    "lra/text": write_text,
    "lra/retrieval": write_retrieval,
    "lra/image": write_image,
    "lra/pathfinder": write_pathfinder,
    "lra/pathx": write_pathx,
}

OPTIONS = {
    "lra/listops": {"length": 32},
    "lra/text": {"bytes": 20, "length": 32},
    "lra/retrieval": {"bytes": 20, "length": 32},
}


def released(name: str, folder: Path, **options):
    """A task on what its writer has written, of short sequences."""
    return tasks.load(name, tasks.data_options(name)(path=str(folder), **OPTIONS.get(name, {}), **options))
