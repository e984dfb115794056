"""What may be concluded from paired runs: differences by seed, t intervals, Holm's correction, and a verdict in words.

Holm, 1979, Scandinavian Journal of Statistics 6(2), 65-70.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
FEWEST_SEEDS = 3
"""Below this many common seeds nothing is concluded."""


@dataclass(frozen=True)
class Pair:
    """One declared comparison: `other` minus `first`, seed by seed."""

    first: str
    other: str
    differences: tuple[float, ...]
    mean: float
    interval: tuple[float, float]  # 95%, of this pair alone
    adjusted: tuple[float, float]  # as wide as Holm's correction over all pairs makes it
    p_value: float  # adjusted by Holm
    higher_is_better: bool

    @property
    def seeds(self) -> int:
        """How many seeds finished with both mixers."""
        return len(self.differences)

    @property
    def outcome(self) -> str:
        """'identical', 'no verdict', 'ahead', 'behind' (of `other`), or 'no difference shown'."""
        if self.seeds < FEWEST_SEEDS:
            return "no verdict"
        if not any(self.differences):
            return "identical"
        if self.p_value >= LEVEL:
            return "no difference shown"
        return "ahead" if (self.mean > 0) == self.higher_is_better else "behind"

    def sentence(self, unit: str) -> str:
        """The verdict in words; the caller adds the budget."""
        pair = f"{self.other} and {self.first}"
        if self.outcome == "identical":
            return f"{pair} are identical: all {self.seeds} differences are zero."
        if self.outcome == "no verdict":
            return (
                f"{pair}: no verdict from {self.seeds} common seed{'s' * (self.seeds != 1)}; {FEWEST_SEEDS} are needed."
            )
        low, high = sorted(abs(bound) for bound in self.adjusted)
        if self.outcome == "no difference shown":
            reach = f"{self.adjusted[0]:+.3f} to {self.adjusted[1]:+.3f}"
            return (
                f"{pair}: no difference shown (mean {self.mean:+.3f} {unit}, {reach} after Holm, {self.seeds} seeds)."
            )
        winner, loser = (self.other, self.first) if self.outcome == "ahead" else (self.first, self.other)
        return (
            f"{winner} is ahead of {loser} in this comparison by {abs(self.mean):.3f} {unit} "
            f"({low:.3f} to {high:.3f} after Holm, {self.seeds} seeds)."
        )


def compare_pairs(scores: dict[str, dict[int, float]], *, higher_is_better: bool) -> list[Pair]:
    """The first mixer against each other one, over the seeds that both have; scores are {mixer: {seed: metric}}."""
    first, *others = scores
    differences = [_differences(scores[first], scores[other]) for other in others]
    p_values = [_p_value(values) for values in differences]
    adjusted = holm(p_values)
    pairs = []
    for other, values, p_value, p_adjusted in zip(others, differences, p_values, adjusted, strict=True):
        # The level at which this pair's own interval excludes 0 exactly where Holm rejects.
        level = LEVEL * p_value / p_adjusted if p_adjusted > 0 else LEVEL / len(others)
        mean = float(np.mean(values)) if values else float("nan")
        pairs.append(
            Pair(
                first=first,
                other=other,
                differences=tuple(values),
                mean=mean,
                interval=t_interval(values, LEVEL),
                adjusted=t_interval(values, level),
                p_value=p_adjusted,
                higher_is_better=higher_is_better,
            )
        )
    return pairs


def t_interval(values: list[float], level: float) -> tuple[float, float]:
    """The interval of confidence 1 - level for the mean; not a number below two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = error * float(stats.t.ppf(1 - level / 2, len(values) - 1))
    return mean - reach, mean + reach


def holm(p_values: list[float]) -> list[float]:
    """p values adjusted for having been looked at together."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _differences(first: dict[int, float], other: dict[int, float]) -> list[float]:
    return [other[seed] - first[seed] for seed in first if seed in other]


def _p_value(values: list[float]) -> float:
    """Of a paired t test; 1 where there are too few values or all are zero, 0 where all are equal and not zero."""
    if len(values) < FEWEST_SEEDS or not any(values):
        return 1.0
    from scipy import stats

    error = float(stats.sem(values))
    if error == 0:
        return 0.0
    return float(2 * stats.t.sf(abs(np.mean(values)) / error, len(values) - 1))
