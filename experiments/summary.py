"""Read what the runs of a comparison left, and draw conclusions from it."""

from __future__ import annotations

import csv
import io
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import Comparison, restore
from experiments.errors import UserError
from experiments.files import read_json, read_lines
from experiments.folders import saved_settings
from experiments.plan import seed_list
from experiments.statistics import Pair, compare_pairs

COLUMNS = [
    "parameters",
    "flops_per_token",
    "state_bytes",
    "tokens_per_second",
    "peak_memory_bytes",
    "seconds",
]


@dataclass(frozen=True)
class Entry:
    """One run of the comparison: its settings, its result ({} while it is missing) and its records in training."""

    label: str
    seed: int
    settings: dict[str, Any]
    result: dict[str, Any]
    records: list[dict[str, Any]]

    @property
    def status(self) -> str:
        """done, failed or missing."""
        return self.result.get("status", "missing")


@dataclass(frozen=True)
class Summary:
    """All that a report says, before it is put into words and pictures."""

    settings: Comparison
    entries: list[Entry]
    metric: str
    higher_is_better: bool
    baselines: dict[str, dict[str, float]]  # on the test split and on the validation split
    bar: tuple[str, str]
    data_note: str
    training_length: int  # the largest N in training

    @property
    def labels(self) -> list[str]:
        """The mixers in the order in which they were named."""
        return list(dict.fromkeys(entry.label for entry in self.entries))

    def of(self, label: str) -> list[Entry]:
        """The finished runs of a mixer."""
        return [entry for entry in self.entries if entry.label == label and entry.status == "done"]

    def scores(self) -> dict[str, dict[int, float]]:
        """{mixer: {seed: metric}} of the finished runs."""
        return {label: {e.seed: e.result[self.metric] for e in self.of(label)} for label in self.labels}

    def mean(self, label: str, key: str) -> float | None:
        """The mean of a result over a mixer's finished runs; None where there is none."""
        values = [entry.result[key] for entry in self.of(label) if entry.result.get(key) is not None]
        return statistics.mean(values) if values else None

    @property
    def unit(self) -> str:
        """The metric in words."""
        return self.metric.replace("_", " ")

    @property
    def tokens(self) -> int:
        """The budget that was spent on each finished run."""
        spent = [entry.result["tokens"] for entry in self.entries if entry.status == "done"]
        return spent[0] if spent else self.settings.train.tokens

    def pairs(self) -> list[Pair]:
        """The declared pairs: each mixer against the first."""
        return compare_pairs(self.scores(), higher_is_better=self.higher_is_better)

    def verdicts(self) -> list[str]:
        """The conclusions in sentences, each with its budget, and what stands against them."""
        done = [entry.result for entry in self.entries if entry.status == "done"]
        if len({result["data_hash"] for result in done}) > 1:
            return ["The runs saw different data: nothing may be concluded from their differences."]
        if len({result["environment"]["device"] for result in done}) > 1:
            return ["The runs were made on different devices: nothing may be concluded from their differences."]
        budget = f"After {self.tokens:,} tokens: "
        sentences = [budget + pair.sentence(self.unit) for pair in self.pairs()]
        return sentences + [f"{budget}{label} {self.bar[1]}." for label in self.labels if self._below_bar(label)]

    def failures(self) -> list[str]:
        """One sentence for each run that did not finish."""
        return [
            f"{entry.label}-{entry.seed} {entry.status}"
            + (f": {entry.result['reason']}" if "reason" in entry.result else "")
            for entry in self.entries
            if entry.status != "done"
        ]

    def _below_bar(self, label: str) -> bool:
        mean, bar = self.mean(label, self.metric), self.baselines["test"].get(self.bar[0])
        if mean is None or bar is None:
            return False
        return mean <= bar if self.higher_is_better else mean >= bar

    def table(self) -> str:
        """results.csv: one row a run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["mixer", "seed", "status", self.metric, *COLUMNS])
        for entry in self.entries:
            values = [entry.result.get(key, "") for key in (self.metric, *COLUMNS)]
            writer.writerow([entry.label, entry.seed, entry.status, *("" if v is None else v for v in values)])
        return text.getvalue()


def read(out: Path) -> Summary:
    """The summary of the comparison in a folder.

    Raises UserError where the folder holds none.
    """
    content = saved_settings(out)
    if content is None or "mixers" not in content:
        raise UserError(f"{out} holds no comparison")
    settings = restore(Comparison, content)
    facts = read_json(out / "task.json") or {}
    if not facts:
        raise UserError(f"{out} holds a comparison that never began; start it again")
    speeds = read_json(out / "throughput.json") or {}
    entries = []
    for label in facts["labels"]:
        for seed in seed_list(settings.seeds):
            folder = out / f"{label}-{seed}"
            result = read_json(folder / "result.json") or {}
            if label in speeds and result.get("status") == "done":
                result["tokens_per_second"] = speeds[label]
            entries.append(
                Entry(label, seed, saved_settings(folder) or {}, result, read_lines(folder / "metrics.jsonl"))
            )
    return Summary(
        settings=settings,
        entries=entries,
        metric=facts["metric"],
        higher_is_better=facts["higher_is_better"],
        baselines=read_json(out / "baselines.json") or {"test": {}, "validation": {}},
        bar=tuple(facts["bar"]),
        data_note=facts["data_note"],
        training_length=facts["length"],
    )
