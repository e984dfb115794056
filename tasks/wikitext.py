"""WikiText (Merity et al., 2016, https://arxiv.org/abs/1609.07843): its rows, from the hub or from files."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from tasks import tokenizer
from tasks.hub import from_parquet, load_split, records
from tasks.tokens import token_stream

REPOSITORY, CONFIG = "Salesforce/wikitext", "wikitext-103-raw-v1"

RELEASED = {"train": "wiki.train", "validation": "wiki.valid", "test": "wiki.test"}


@dataclass(frozen=True)
class Split:
    """The rows of one split, as often as they are asked for, and the hash of the files that they stand in."""

    source: str
    rows: Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Text:
    """The splits as token streams, the words of those that are held out, and a sentence on what it is."""

    streams: dict[str, np.ndarray]
    tokenizer: tokenizer.Tokenizer
    words: dict[str, int]
    note: str


def tokens(path: str, choice: str) -> Text:
    """WikiText from the folder `path`, or from the hub, through the tokenizer that `choice` names.

    Raises ValueError with one line where data or tokenizer cannot be had.
    """
    found, where = splits(path)
    chosen = tokenizer.load(choice, found["train"].rows(), found["train"].source)
    streams = {name: token_stream(split.rows(), split.source, chosen) for name, split in found.items()}
    words = {name: count_words(found[name].rows()) for name in ("validation", "test")}
    note = f"{where}, {sum(map(len, streams.values())):,} tokens ({chosen.name})"
    return Text(streams, chosen, words, note)


def splits(path: str) -> tuple[dict[str, Split], str]:
    """The splits train, validation and test, and a sentence on where they come from: the hub where path is "", else the
    released wiki.{train,valid,test}.raw or .tokens, or the hub's parquet files, in a folder.

    Raises ValueError for data that is missing, damaged or of another form; some of it only when rows are read.
    """
    if not path:
        return {name: _from_hub(name) for name in RELEASED}, f"{REPOSITORY} ({CONFIG}) from the hub"
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"data.path={path} is no folder; give the one that holds wiki.train.raw or the parquet files")
    files = {name: _files(folder, name) for name in RELEASED}
    if len({parts[0].suffix for parts in files.values()}) > 1:
        names = ", ".join(parts[0].name for parts in files.values())
        raise ValueError(f"data.path={folder} mixes forms of WikiText ({names}); give three files of one form")
    return {name: _from_files(parts) for name, parts in files.items()}, f"WikiText in {folder.name}"


def count_words(rows: Iterator[str]) -> int:
    """Words between blanks, and one for the end of each row, as the official counts have it."""
    return sum(len(row.split()) + 1 for row in rows)


def _from_hub(name: str) -> Split:
    table = load_split(REPOSITORY, CONFIG, name)
    files = [Path(entry["filename"]) for entry in table.cache_files]
    return Split(_hash(files), lambda: (row for (row,) in records(table, ["text"], REPOSITORY)))


def _files(folder: Path, name: str) -> list[Path]:
    """What a split consists of in a folder."""
    for ending in ("raw", "tokens"):
        path = folder / f"{RELEASED[name]}.{ending}"
        if path.exists():
            return [path]
    files = sorted(folder.glob(f"{name}-*.parquet"))
    if not files:
        held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"data.path={folder} lacks {RELEASED[name]}.raw (or .tokens, or {name}-*.parquet); it holds {held}"
        )
    return files


def _from_files(files: list[Path]) -> Split:
    if files[0].suffix != ".parquet":
        return Split(_hash(files), partial(_lines, files[0]))
    table = from_parquet(files)
    return Split(_hash(files), lambda: (row for (row,) in records(table, ["text"], str(files[0]))))


def _lines(path: Path) -> Iterator[str]:
    line = b"\n"
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                if line.startswith(b"version https://git-lfs.github.com/spec/"):
                    raise ValueError(f"{path} is git-lfs's pointer to a file, not the file: fetch it with git lfs pull")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, row {number}: byte {error.start} is not UTF-8 ({error.reason})") from error
    if not line.endswith(b"\n"):
        raise ValueError(f"{path} ends in the middle of a row: download it again")


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(files: list[Path]) -> str:
    stats = [path.stat() for path in files]
    for path, stat in zip(files, stats, strict=True):
        if not stat.st_size:
            raise ValueError(f"{path} is empty: download it again")
    whole = "".join(_digest(path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True))
    return hashlib.sha256(whole.encode()).hexdigest()
