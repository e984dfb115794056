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
    from tasks import tokenizer, wikitext
    from tasks.token_model import TokenModel
    from tasks.tokens import token_stream

    splits, note = wikitext.splits(data.path)
    chosen = tokenizer.load(data.tokenizer, splits["train"].rows(), splits["train"].source)
    streams = {name: token_stream(split.rows(), split.source, chosen) for name, split in splits.items()}
    return TokenModel(
        streams,
        chosen,
        words={name: wikitext.count_words(splits[name].rows()) for name in ("validation", "test")},
        length=data.length,
        data_note=f"{note}, {sum(map(len, streams.values())):,} tokens ({chosen.name})",
    )
