"""What tests of tasks share: a cache of their own, and small sets of images."""

from pathlib import Path

import pytest

from tests.tasks.image_files import write_cifar, write_folders


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> Path:
    return write_cifar(tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return write_folders(tmp_path_factory.mktemp("imagenet"))
