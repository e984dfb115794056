"""GLUE (Wang et al., 2018, https://arxiv.org/abs/1804.07461): the examples of its nine tasks, from the hub, from its
parquet files, or from the tab-separated files as they were released.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.hub import from_parquet, load_split, records

log = logging.getLogger(__name__)

REPOSITORY = "nyu-mll/glue"

NO_LABEL = ("-1", "-1.0", "-", "")
"""What stands where there is no label: on the hub, and in MNLI's development sets."""

BEST_SCORE = 5.0  # of STS-B, whose labels are similarities


@dataclass(frozen=True)
class Subset:
    """One task: the names of its columns (the hub's first, then others in released files), classes and files."""

    folder: str  # in GLUE's archive
    texts: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...] | None = ("0", "1")  # None: a score
    label: tuple[str, ...] = ("label",)
    held_out: tuple[str, ...] = ("validation",)
    released: dict[str, tuple[tuple[str, ...], ...]] | None = None  # files that make up a split; else SPLITS
    positions: tuple[int, ...] | None = None  # of texts and label in files without a header
    columns: int = 0  # that such files have at the least
    damaged: int = 0  # rows that lack columns in a released file: 21 in the first one of QQP, of questions with breaks
    original: str = ""  # what it means to read the original's files


SPLITS = {"train": (("train.tsv",),), "validation": (("dev.tsv",),)}

ENDED = ("train.tsv", "dev.tsv")
"""Files whose last row has a line break; CoLA's own in_domain_dev.tsv has none."""

PAIR = (("sentence1",), ("sentence2",))

ENTAILED = ("entailment", "not_entailment")

SUBSETS = {
    "cola": Subset(
        "CoLA",
        (("sentence",),),
        released={
            "train": (("train.tsv",), ("in_domain_train.tsv",)),
            "validation": (("dev.tsv",), ("in_domain_dev.tsv", "out_of_domain_dev.tsv")),
        },
        positions=(3, 1),
        columns=4,
    ),
    "sst2": Subset("SST-2", (("sentence",),)),
    "mrpc": Subset(
        "MRPC",
        (("sentence1", "#1 String"), ("sentence2", "#2 String")),
        label=("label", "Quality"),
        released={
            "train": (("train.tsv",), ("msr_paraphrase_train.txt",)),
            "validation": (("dev.tsv",), ("msr_paraphrase_test.txt",)),
        },
        original="its own test pairs are scored, and all of its training pairs learnt: GLUE splits them otherwise",
    ),
    "qqp": Subset("QQP", (("question1",), ("question2",)), label=("label", "is_duplicate"), damaged=21),
    "stsb": Subset(
        "STS-B",
        PAIR,
        classes=None,
        label=("label", "score"),
        released={
            "train": (("train.tsv",), ("sts-train.csv",)),
            "validation": (("dev.tsv",), ("sts-dev.csv",)),
        },
        positions=(5, 6, 4),
        columns=7,
    ),
    "mnli": Subset(
        "MNLI",
        (("premise", "sentence1"), ("hypothesis", "sentence2")),
        ("entailment", "neutral", "contradiction"),
        label=("label", "gold_label"),
        held_out=("validation_matched", "validation_mismatched"),
        released={
            "train": (("train.tsv",), ("multinli_1.0_train.txt",)),
            "validation_matched": (("dev_matched.tsv",), ("multinli_1.0_dev_matched.txt",)),
            "validation_mismatched": (("dev_mismatched.tsv",), ("multinli_1.0_dev_mismatched.txt",)),
        },
    ),
    "qnli": Subset("QNLI", (("question",), ("sentence",)), ENTAILED),
    "rte": Subset("RTE", PAIR, ENTAILED),
    "wnli": Subset("WNLI", PAIR),
}


@dataclass(frozen=True)
class Examples:
    """Labelled examples: the texts of each, and its class or score."""

    texts: list[tuple[str, ...]]
    labels: list[float]


def read(name: str, split: str, path: str) -> Examples:
    """The labelled examples of a split of a subset; those without a label are left out.

    Raises ValueError, naming file and row, for what is missing or of another form.
    """
    subset = SUBSETS[name]
    texts, labels = [], []
    place = ""
    for place, *values, label in _rows(name, subset, split, path):
        number = _label(subset, str(label), place)
        if number is not None:
            texts.append(tuple(str(value) for value in values))
            labels.append(number)
    if not labels:
        raise ValueError(f"the {split} split of {name} has no labels (the last row is {place}); -1 stands for none")
    return Examples(texts, labels)


def _rows(name: str, subset: Subset, split: str, path: str) -> Iterator[tuple]:
    """(place, texts…, label) of each row."""
    if not path:
        return _from_table(subset, load_split(REPOSITORY, name, split), f"{REPOSITORY} ({name})")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.path={path} is no folder; give GLUE's, or the one of {subset.folder} alone")
    for other, its in SUBSETS.items():
        if other != name and root.resolve().name in (other, its.folder):
            raise ValueError(f"data.path={path} is the folder of data.subset={other}, not of data.subset={name}")
    folders = [folder for folder in (root, root / subset.folder, root / name) if folder.is_dir()]
    released = (subset.released or SPLITS)[split]
    for folder in folders:
        for files in released:
            if all((folder / file).exists() for file in files):
                _require_one_form(folder, subset, released.index(files))
                if subset.original and files is not released[0] and split != "train":
                    log.warning("%s: %s", folder / files[0], subset.original)
                return chain.from_iterable(_tabbed(folder / file, subset) for file in files)
        if files := sorted(folder.glob(f"{split}-*.parquet")):
            return _from_table(subset, from_parquet(files), str(files[0]))
    choices = " or ".join(" with ".join(files) for files in released)
    raise ValueError(f"data.path={path} lacks {choices} or {split}-*.parquet, there or in {subset.folder}/")


def _require_one_form(folder: Path, subset: Subset, form: int) -> None:
    """MRPC's own training file holds what GLUE's development file does."""
    splits = (subset.released or SPLITS).values()
    glues = [file for forms in splits for file in forms[0]]
    there = [file for file in glues if (folder / file).exists()]
    if form and there:
        lacking = next(file for file in glues if file not in there)
        raise ValueError(f"{folder} holds {there[0]} and lacks {lacking}; download it again")


def _from_table(subset: Subset, table: Any, where: str) -> Iterator[tuple]:
    rows = records(table, [names[0] for names in subset.texts], where, label=subset.label[0])
    return ((f"{where}, row {number}", *row) for number, row in enumerate(rows, 1))


def _tabbed(path: Path, subset: Subset) -> Iterator[tuple]:
    """Tab-separated rows, in which quotes mean nothing."""
    columns: tuple[int, ...] | None = None
    text_last = False
    damaged = 0
    with open(path, "rb") as file:  # lines end in line feeds alone: other breaks belong to the text
        for number, line in enumerate(file, 1):
            place = f"{path}, row {number}"
            cells = _decoded(line, place).removeprefix("\ufeff").rstrip("\r\n").split("\t")
            if columns is None:
                columns, header = _columns(cells, subset, place)
                text_last = max(columns) != columns[-1] and path.name in ENDED
                if header:
                    continue
            if cells == [""]:
                continue
            least = subset.columns if columns == subset.positions else 1 + max(columns)
            if len(cells) < least:
                damaged += 1
                if damaged > subset.damaged or not line.endswith(b"\n"):
                    raise ValueError(f"{place} has {len(cells)} columns between tabs, and at least {least} are wanted")
                continue
            if text_last and not line.endswith(b"\n"):
                raise ValueError(f"{place}: the file ends in the middle of a text; download it again")
            yield place, *(cells[column] for column in columns)
    if columns is None:
        raise ValueError(f"{path} is empty: download it again")
    if damaged:
        log.warning("%s: %d rows without all of their columns are left out", path, damaged)


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: byte {error.start} is not UTF-8 ({error.reason})") from error


def _columns(cells: list[str], subset: Subset, place: str) -> tuple[tuple[int, ...], bool]:
    """Where texts and label stand, and whether the first row is a header that says so."""
    found = []
    for names in (*subset.texts, subset.label):
        found += [next((cells.index(name) for name in names if name in cells), None)]
    named = tuple(column for column in found if column is not None)
    if len(named) == len(found):
        return named, True
    if subset.positions is not None and len(cells) >= subset.columns:
        return subset.positions, False
    wanted = ", ".join(" or ".join(names) for names in (*subset.texts, subset.label))
    raise ValueError(f"{place} has the columns {', '.join(cells)}, and {wanted} are wanted")


def _label(subset: Subset, text: str, place: str) -> float | None:
    if text.strip() in NO_LABEL:
        return None
    if subset.classes is None:
        try:
            score = float(text)
        except ValueError:
            score = -1.0
        if not 0 <= score <= BEST_SCORE:
            raise ValueError(f"{place}: the score {text!r} must be a number from 0 to {BEST_SCORE:g}")
        return score
    if text in subset.classes:
        return subset.classes.index(text)
    if text.isdigit() and int(text) < len(subset.classes):  # the hub numbers the classes
        return int(text)
    raise ValueError(f"{place}: the label {text!r} must be one of {', '.join(subset.classes)}")
