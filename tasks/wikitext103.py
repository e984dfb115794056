"""WikiText-103: a causal language model of Wikipedia's articles (table 2 of the TNN paper)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.token_model import TokenModel


@dataclass
class Data:
    """Options of the data. wikitext-2-raw, or text of your own in files of these names, can stand in the folder."""

    path: str = ""  # a folder with wiki.{train,valid,test}.raw or .tokens, or the hub's parquet files; "": the hub
    tokenizer: str = "gpt2"  # or words; or a tokenizer.json, or a folder with vocab.json and merges.txt
    length: int = 512  # tokens a training sequence


def load(data: Data) -> "TokenModel":
    """The task, its text turned into tokens, or read from the cache of an earlier time.

    Raises ValueError with one line where data or tokenizer cannot be had.
    """
    from tasks import wikitext
    from tasks.token_model import TokenModel

    text = wikitext.tokens(data.path, data.tokenizer)
    return TokenModel(text.streams, text.tokenizer, words=text.words, length=data.length, data_note=text.note)
