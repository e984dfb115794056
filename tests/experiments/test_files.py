"""Files are whole or absent, and folders belong to one command."""

import os

import pytest

from experiments import folders
from experiments.errors import UserError
from experiments.files import append_line, read_json, read_lines, replacing, write_json


def fail_half_way(path):
    with replacing(path) as part:
        part.write_text('{"loss":')
        raise OSError("no space")


def test_a_write_that_fails_leaves_the_file_before(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"loss": 1})
    with pytest.raises(OSError, match="no space"):
        fail_half_way(path)
    assert read_json(path) == {"loss": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda one, other: (order.append("rename"), replace(one, other)))
    write_json(tmp_path / "result.json", 1)
    assert order == ["sync", "rename"]


def test_a_record_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    append_line(path, {"step": 1})
    append_line(path, {"step": 2})
    path.write_text(path.read_text()[:-3])
    assert read_lines(path) == [{"step": 1}]


def test_a_folder_is_held_by_one_command(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PATIENCE", 0.0)
    told = []
    with folders.locked(tmp_path / "out", told.append):
        second = folders.locked(tmp_path / "out", told.append)
        with pytest.raises(UserError, match="another command is running"):
            second.__enter__()
    with folders.locked(tmp_path / "out", told.append):
        pass


def test_a_folder_keeps_its_settings(tmp_path):
    folders.claim(tmp_path, {"task": "python", "workers": 1})
    folders.claim(tmp_path, {"task": "python", "workers": 2}, loose=("workers",))
    with pytest.raises(UserError, match=r"holds other work \(task: python and text\)"):
        folders.claim(tmp_path, {"task": "text", "workers": 1}, loose=("workers",))
    (tmp_path / "config.yaml").write_text("task: [")
    with pytest.raises(UserError, match=r"cannot read .*config\.yaml"):
        folders.claim(tmp_path, {"task": "python"})
