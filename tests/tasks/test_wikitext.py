"""WikiText from the released files and from the hub's, its tokens on disk, and what is scored."""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tasks
from tasks import cache, tokenizer, wikitext
from tasks.tokens import blocks, token_stream
from tests.tasks.language_files import ARTICLE, write_tokenizer, write_wikitext, write_wikitext_parquet


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MIXERZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(path: Path, **options):
    return tasks.load("wikitext103", tasks.data_options("wikitext103")(path=str(path), **{"length": 16, **options}))


class Table(nn.Module):
    """A language model that gives the token after `t` the logits of a table row."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, tokens, targets):
        return F.cross_entropy(self.table[tokens].flatten(0, 1), targets.flatten())


def test_gpt2_is_openais():
    gpt2 = tokenizer.load("gpt2", [], "")
    assert (gpt2.size, gpt2.end) == (50257, 50256)
    assert list(gpt2.encode(["Hello world", ""])) == [[15496, 995], []]
    assert gpt2.end not in next(gpt2.encode(["<|endoftext|>"]))  # text cannot say it
    text = " naïve – “quotes” \t and\n 日本語"
    assert gpt2.decode(next(gpt2.encode([text]))) == text


def test_released_files_and_the_hubs_are_the_same_text(tmp_path: Path):
    released = load(write_wikitext(tmp_path / "raw"))
    tokens = load(write_wikitext(tmp_path / "v1", "tokens"))
    hub = load(write_wikitext_parquet(tmp_path / "hub"))
    assert released.data_hash == tokens.data_hash == hub.data_hash
    assert released.tokenizer.startswith("50,257 tokens")


def test_empty_rows_stay_and_rows_are_stripped(tmp_path: Path):
    task = load(write_wikitext(tmp_path / "raw"))
    gpt2 = tokenizer.load("gpt2", [], "")
    rows = [row.strip() for row in ARTICLE.decode().split("\n")[:-1]]
    assert rows.count("") == 4
    expected = [token for row in gpt2.encode(rows) for token in (*row, gpt2.end)]
    assert task._train[: len(expected)].tolist() == expected
    assert task._test[1 : 1 + len(expected)].tolist() == expected
    assert task._test[0] == gpt2.end


def test_words_are_wikitexts_own(tmp_path: Path):
    folder = write_wikitext(tmp_path / "raw")
    task = load(folder, tokenizer="words")
    end = task.encode("<eos>")[0]
    assert task.decode(task._train[:7].tolist()).split() == ["<eos>", "=", "Robert", "Boulter", "=", "<eos>", "<eos>"]
    unknown, named, boulter = task.encode("once <unk> Boulter")
    assert unknown == named != boulter
    words = {*ARTICLE.decode().split()}
    assert task.vocabulary_size == len(words) + 2
    assert int((task._train == end).sum()) == 40 * 8


def test_perplexity_by_token_and_by_word_are_their_definitions(tmp_path: Path):
    task = load(write_wikitext(tmp_path / "raw"), tokenizer="words", length=5)
    probability = 0.5
    others = (1 - probability) / (task.vocabulary_size - 1)
    frequent = task.encode("=")[0]
    table = torch.full((task.vocabulary_size, task.vocabulary_size), math.log(others))
    table[:, frequent] = math.log(probability)
    scores = task.evaluate(Table(table), test=True)
    tokens = 6 * (len(ARTICLE.split()) + 8)
    right = 6 * ARTICLE.split().count(b"=")
    nats = -right * math.log(probability) - (tokens - right) * math.log(others)
    assert scores["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert scores["word_perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)  # words are the tokens here
    pieces = load(write_wikitext(tmp_path / "raw"), tokenizer=str(write_tokenizer(tmp_path / "bytes")))
    uniform = pieces.evaluate(Table(torch.zeros(257, 257)), test=False)
    count = 4 * sum(len(row.strip()) + 1 for row in ARTICLE.split(b"\n")[:-1])
    assert uniform["perplexity"] == pytest.approx(257, rel=1e-4)
    words = 4 * (len(ARTICLE.split()) + 8)
    assert math.log(uniform["word_perplexity"]) == pytest.approx(math.log(257) * count / words, rel=1e-4)


def test_extrapolation_scores_every_token_at_every_length(tmp_path: Path):
    task = load(write_wikitext(tmp_path / "raw"), tokenizer="words")
    generator = torch.Generator().manual_seed(0)
    model = Table(torch.randn(task.vocabulary_size, task.vocabulary_size, generator=generator))
    values = task.extrapolate(model, [16, 33, 100, 100_000])
    assert list(values) == [16, 33, 100]
    for value in values.values():
        assert value == pytest.approx(task.evaluate(model, test=True)["perplexity"], rel=1e-5)


def test_the_unigram_line_is_its_definition(tmp_path: Path):
    task = load(write_wikitext(tmp_path / "raw"), tokenizer="words")
    train, test = task._train.tolist(), task._test[1:].tolist()
    share = [(train.count(token) + 1) / (len(train) + task.vocabulary_size) for token in test]
    assert task.baselines(test=True)["unigram counts"] == pytest.approx(math.exp(-np.log(share).mean()))


def test_blocks_are_whole_rows():
    end = 9
    stream = np.array([1, 1, 9, 2, 9, 3, 3, 3, 3, 3, 3, 3, 9, 9, 4, 9])
    found = [stream[start:stop].tolist() for start, stop in blocks(stream, end, 5)]
    assert found == [[1, 1, 9, 2, 9], [3, 3, 3, 3, 3], [3, 3, 9, 9], [4, 9]]


def test_tokens_are_kept_and_follow_source_and_tokenizer(tmp_path: Path, own_cache: Path):
    folder = write_wikitext(tmp_path / "raw")
    load(folder)
    kept = {path: path.stat().st_mtime_ns for path in own_cache.glob("*.bin")}
    assert len(kept) == 3
    load(folder)
    load(write_wikitext_parquet(tmp_path / "hub"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (folder / "wiki.test.raw").write_bytes(ARTICLE * 7)
    before = load(folder).data_hash
    load(folder, tokenizer=str(write_tokenizer(tmp_path / "bytes")))
    assert len(list(own_cache.glob("*.bin"))) == 3 + 3 + 1 + 3
    assert load(folder).data_hash == before
    assert not list(own_cache.glob("*.part"))


def test_what_fails_leaves_nothing_behind(own_cache: Path):
    def broken():
        yield "a row"
        raise ValueError("no more")

    chosen = tokenizer.load("gpt2", [], "")
    with pytest.raises(ValueError, match="no more"):
        token_stream(broken(), "source", chosen)
    assert not [path for path in own_cache.iterdir() if path.suffix != ".lock"]
    assert token_stream(iter(["a row"]), "source", chosen).tolist() == [*next(chosen.encode(["a row"])), chosen.end]


SLOW = """
import sys, time
from pathlib import Path
from tasks.cache import cached

def make(part):
    with open(part, "w") as file:
        for _ in range(20):
            file.write("x" * 100)
            file.flush()
            time.sleep(0.02)
    print("made")

print(len(cached("slow", ("key",), make).read_text()))
"""


def test_two_processes_make_one_file(own_cache: Path):
    both = [
        subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0].split() for process in both]
    assert sorted(outputs) == [["2000"], ["made", "2000"]]


def test_a_killed_process_leaves_no_half_file(own_cache: Path):
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    while not list(own_cache.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not [path for path in own_cache.iterdir() if path.suffix not in (".lock", ".part")]
    assert cache.cached("slow", ("key",), lambda part: part.write_text("whole") and None).read_text() == "whole"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no folder"),
        (
            lambda folder: (folder / "wiki.valid.raw").unlink(),
            r"lacks wiki.valid.raw \(or .tokens, or validation-\*.par",
        ),
        (lambda folder: (folder / "wiki.test.raw").write_bytes(b""), "wiki.test.raw is empty: download it again"),
        (
            lambda folder: (folder / "wiki.train.raw").write_bytes(ARTICLE[:-5]),
            "wiki.train.raw ends in the middle of a",
        ),
        (
            lambda folder: (folder / "wiki.valid.raw").rename(folder / "wiki.valid.tokens"),
            r"mixes forms of WikiText \(wiki.train.raw, wiki.valid.tokens, wiki.test.raw\); give three files of",
        ),
        (
            lambda folder: (folder / "wiki.train.raw").write_bytes(
                b"version https://git-lfs.github.com/spec/v1\nsize 5\n"
            ),
            "wiki.train.raw is git-lfs's pointer to a file, not the file: fetch it with git lfs pull",
        ),
        (
            lambda folder: (folder / "wiki.train.raw").write_bytes(ARTICLE + b" a \xff b \n"),
            r"wiki.train.raw, row 9: byte 3 is not UTF-8",
        ),
    ],
)
def test_damaged_files_get_one_line(tmp_path: Path, damage, message: str):
    folder = write_wikitext(tmp_path / "raw")
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_damaged_parquet_gets_one_line(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    folder = write_wikitext_parquet(tmp_path / "hub")
    shard = folder / "train-00001-of-00002.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError,
        match=r"train-00001-of-00002.parquet is no whole parquet file \(Parquet magic .*\): download it again",
    ):
        load(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=r"lacks shard 1 of 2 beside train-00000-of-00002\.parquet"):
        load(folder)
    parquet.write_table(pyarrow.table({"sentence": ["a"]}), shard)
    with pytest.raises(
        ValueError, match=r"00001-of-00002.parquet has the columns sentence, and train-00000-of-00002.parquet .* text"
    ):
        load(folder)
    parquet.write_table(pyarrow.table({"sentence": ["a"]}), folder / "test-00000-of-00001.parquet")
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="has the columns sentence, and text is wanted"):
        load(folder)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, 2, 3], r"the column text holds int64, and text is wanted"),
        (["a", "", None], r"row 3 has no text"),
        ([], r"validation-00000-of-00001.parquet holds no rows: download it again"),
    ],
)
def test_rows_that_are_no_text_get_one_line(tmp_path: Path, column: list, message: str):
    import pyarrow
    from pyarrow import parquet

    folder = write_wikitext_parquet(tmp_path / "hub")
    parquet.write_table(pyarrow.table({"text": column}), folder / "validation-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_table_of_broken_text_gets_one_line(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    folder = write_wikitext_parquet(tmp_path / "hub")
    ends = pyarrow.py_buffer(np.array([0, 1, 3], np.int32).tobytes())
    broken = pyarrow.StringArray.from_buffers(2, ends, pyarrow.py_buffer(b"ab\xff"))
    parquet.write_table(pyarrow.table({"text": broken}), folder / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"test-00000-of-00001.parquet, one of rows 1 to 1000: a text is not UTF-8"):
        load(folder)


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    folder = write_wikitext(tmp_path / "raw")
    before = load(folder).data_hash
    (folder / "wiki.train.raw").write_bytes(b"\xef\xbb\xbf" + (folder / "wiki.train.raw").read_bytes())
    assert load(folder).data_hash == before


def test_a_tokenizer_cuts_and_pads_nothing(tmp_path: Path):
    """Whatever its file asks for."""
    import tokenizers

    folder = write_tokenizer(tmp_path / "bytes")
    library = tokenizers.ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    library.enable_truncation(4)
    library.enable_padding(length=8)
    library.save(str(tmp_path / "tokenizer.json"))
    cut = tokenizer.load(str(tmp_path / "tokenizer.json"), [], "")
    assert [len(row) for row in cut.encode(["The Bill", "a"])] == [8, 1]


def test_text_that_a_tokenizer_cannot_express_gets_one_line(tmp_path: Path):
    import tokenizers

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"</s>": 0, "known": 1}, unk_token="<unk>"))
    library.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.load(str(tmp_path / "tokenizer.json"), [], "")
    with pytest.raises(ValueError, match=r"data.tokenizer=.*tokenizer.json cannot encode the text: .*"):
        list(words.encode(["unknown"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be gpt2, words, or a tokenizer.json"),
        ("{", "cannot be read"),
        ('{"a": 0}', "holds no token that ends a text"),
    ],
)
def test_tokenizers_that_are_none_get_one_line(tmp_path: Path, content: str | None, message: str):
    folder = write_tokenizer(tmp_path / "bytes")
    if content is None:
        (folder / "vocab.json").unlink()
    else:
        (folder / "vocab.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        tokenizer.load(str(folder), [], "")


def test_without_a_network_the_answer_comes_at_once():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    tasks.data_options("wikitext103")
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"cannot load Salesforce/wikitext .* from the Hugging Face hub .* with data.path=FOLDER"
    ):
        wikitext.splits("")
    assert time.monotonic() - start < 10


def test_text_must_be_longer_than_a_window(tmp_path: Path):
    with pytest.raises(ValueError, match=r"the validation split holds \d+ tokens, and data.length=512 needs more"):
        load(write_wikitext(tmp_path / "raw"), length=512)
