"""How hard hypothesis tries, one thread a worker, and kernels on the CPU."""

import os
import sys

# read when triton is imported: its kernels run in its interpreter, but for the tests that need a GPU
os.environ.setdefault("TRITON_INTERPRET", "0" if "--cuda" in sys.argv else "1")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings

ALL_CHECKS = list(HealthCheck)
settings.register_profile(
    "gate",
    max_examples=10,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=ALL_CHECKS,
)
settings.register_profile(
    "thorough", max_examples=200, deadline=None, report_multiple_bugs=False, suppress_health_check=ALL_CHECKS
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--browser", action="store_true", help="collect the tests that need Chromium")
    parser.addoption("--cuda", action="store_true", help="collect the tests that need a GPU")


def pytest_ignore_collect(collection_path, config: pytest.Config) -> bool | None:
    """The tests that need a browser or a GPU are suites of their own (make test-browser, make test-gpu)."""
    suite = collection_path.name
    return True if suite in ("browser", "cuda") and not config.getoption(f"--{suite}") else None


def pytest_terminal_summary(terminalreporter) -> None:
    """Show what tests noted with record_property("note", …)."""
    for report in terminalreporter.getreports("passed"):
        for key, value in report.user_properties:
            if key == "note":
                terminalreporter.line(f"note: {value}")
