"""Examples kept on disk: whole or absent, shared by processes, read back as they were."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.examples import Examples, keep, stamp


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


def pairs(file: str, count: int):
    """Pairs whose second sequence the file holds; fails in the middle where it is missing."""
    for row in range(count):
        yield [bytes([row % 256, 255] * (row % 4)), Path(file).read_bytes() if row > 1500 else b"x"], row


def read(examples: Examples) -> list:
    return [
        (tokens.tolist(), lengths.tolist(), label.item())
        for part in examples.parts(7)
        for tokens, lengths, label in zip(*part, strict=True)
    ]


def test_what_was_kept_comes_back_padded(cache: Path):
    (cache / "file").write_bytes(b"end")
    examples = Examples(keep(pairs, sequences=2, file=str(cache / "file"), count=4), length=6)
    assert read(examples)[2] == ([[2, 255, 2, 255, 0, 0], [ord("x"), 0, 0, 0, 0, 0]], [4, 1], 2)
    assert examples.labels().tolist() == [0, 1, 2, 3]
    assert examples.longest_first().tolist() == [3, 2, 1, 0]
    assert read(examples.part(1, 3)) == read(examples)[1:3]
    assert read(examples.chosen(np.array([3, 1]))) == [read(examples)[3], read(examples)[1]]
    assert [row[2] for row in read(examples.chosen(np.array([3, 1])).part(1, 2))] == [1]


def test_the_hash_is_of_the_rows_alone(cache: Path):
    (cache / "file").write_bytes(b"end")
    examples = Examples(keep(pairs, sequences=2, file=str(cache / "file"), count=4), length=6)
    digests = []
    for chosen in ([0, 1, 2], [2, 1, 0], [0, 1]):
        digest = hashlib.sha256()
        examples.chosen(np.array(chosen)).update(digest)
        digests.append(digest.hexdigest())
    digest = hashlib.sha256()
    examples.part(0, 3).update(digest)
    assert digest.hexdigest() == digests[0]
    assert len(set(digests)) == 3


def test_a_failure_in_the_middle_leaves_nothing_behind(cache: Path):
    options = {"file": str(cache / "file"), "count": 2000}
    with pytest.raises(ValueError, match="No such file"):
        keep(pairs, sequences=2, **options)
    assert not list(cache.rglob("*.arrow"))
    (cache / "file").write_bytes(b"end")
    assert len(keep(pairs, sequences=2, **options)) == 2000


def test_two_processes_share_one_table(cache: Path):
    code = """
import datasets, sys
datasets.config.HF_DATASETS_CACHE = sys.argv[1]
from tasks.examples import keep
from tasks.listops import Data, records
from dataclasses import asdict
print(sum(keep(records, **{**asdict(Data()), 'train': 3000})['label']))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=250)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1] != b""
    assert len(list(cache.rglob("*.arrow"))) == 1


def test_what_takes_long_is_said_once(cache: Path, caplog):
    (cache / "file").write_bytes(b"end")
    for _ in range(2):
        keep(pairs, sequences=2, file=str(cache / "file"), count=4)
    assert [record.message for record in caplog.records] == [
        "reading or drawing examples, once for all runs; kept in the cache of datasets"
    ]


def test_stamps_change_with_the_files(tmp_path):
    (tmp_path / "a").write_text("1")
    before = stamp([tmp_path / "a"])
    assert before == stamp([tmp_path / "a"])
    (tmp_path / "a").write_text("12")
    assert stamp([tmp_path / "a"]) != before
