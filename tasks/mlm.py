"""Masked language modelling of WikiText-103, from which `glue` is fine-tuned (table 3 of the TNN paper; RoBERTa, Liu et
al., 2019, https://arxiv.org/abs/1907.11692).

Shapes: B batch, N length.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.masked_model import MaskedModel


@dataclass
class Data:
    """Options of the data, those of wikitext103."""

    path: str = ""  # a folder with wiki.{train,valid,test}.raw or .tokens, or the hub's parquet files; "": the hub
    tokenizer: str = "gpt2"  # or words; or a tokenizer.json, or a folder with vocab.json and merges.txt
    length: int = 512  # tokens of the longest training sequence


def load(data: Data) -> "MaskedModel":
    """The task, its text turned into tokens, or read from the cache of an earlier time.

    Raises ValueError with one line where data or tokenizer cannot be had.
    """
    from tasks import wikitext
    from tasks.masked_model import MaskedModel

    text = wikitext.tokens(data.path, data.tokenizer)
    return MaskedModel(text.streams, text.tokenizer, length=data.length, data_note=text.note)
