"""GLUE, nine tasks of classifying sentences and pairs of them, fine-tuned from a run of `mlm` (table 3 of the TNN
paper): start=runs/mlm/gtu-0.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.sentence_task import SentenceTask


@dataclass
class Data:
    """Options of the data."""

    subset: str = "cola"  # cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli
    path: str = ""  # a folder with the released files, GLUE's whole archive, or the hub's parquet files; "": the hub
    tokenizer: str = "gpt2"  # that of the run that it starts from
    length: int = 512  # tokens of the longest sequence; what goes beyond is cut


def load(data: Data) -> "SentenceTask":
    """The task, its text turned into tokens, or read from the cache of an earlier time.

    Raises ValueError with one line where data or tokenizer cannot be had.
    """
    from tasks import tokenizer
    from tasks.glue_files import SUBSETS, read
    from tasks.sentence_task import SentenceTask

    if data.subset not in SUBSETS:
        raise ValueError(f"data.subset={data.subset} must be one of {', '.join(SUBSETS)}")
    if data.tokenizer == "words":
        raise ValueError(
            "data.tokenizer=words is a vocabulary of the text that a run was trained on: GLUE needs another"
        )
    subset = SUBSETS[data.subset]
    splits = {split: read(data.subset, split, data.path) for split in ("train", *subset.held_out)}
    return SentenceTask(data.subset, splits, tokenizer.load(data.tokenizer, [], ""), length=data.length)
