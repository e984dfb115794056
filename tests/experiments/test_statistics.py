"""The verdict says what paired differences allow, and nothing more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import compare_pairs, holm, t_interval


def pairs(**scores):
    return compare_pairs({name: dict(enumerate(values)) for name, values in scores.items()}, higher_is_better=False)


def test_a_clear_difference_is_ahead():
    (pair,) = pairs(gtu=[3.0, 3.1, 3.2], softmax=[2.0, 2.1, 2.21])
    assert pair.outcome == "ahead"
    assert "softmax is ahead of gtu in this comparison by 0.997" in pair.sentence("bits per byte")


def test_the_first_may_be_ahead_and_higher_may_be_better():
    (pair,) = pairs(gtu=[2.0, 2.1, 2.21], softmax=[3.0, 3.1, 3.2])
    assert pair.outcome == "behind"
    assert pair.sentence("bits per byte").startswith("gtu is ahead of softmax")
    scores = {"gtu": {0: 0.2, 1: 0.3, 2: 0.41}, "fnet": {0: 0.5, 1: 0.6, 2: 0.7}}
    (pair,) = compare_pairs(scores, higher_is_better=True)
    assert pair.outcome == "ahead"


def test_differences_are_paired_by_seed():
    """Seeds spread by 10, mixers differ by 0.1: only pairing shows it."""
    (pair,) = pairs(gtu=[0.0, 10.0, 20.0], softmax=[0.1, 10.1001, 20.0999])
    assert pair.outcome == "behind"


def test_identical_runs_are_identical():
    (pair,) = pairs(gtu=[1.0, 2.0, 3.0], again=[1.0, 2.0, 3.0])
    assert pair.outcome == "identical"
    assert "all 3 differences are zero" in pair.sentence("bits per byte")


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_under_three_common_seeds_there_is_no_verdict(seeds: int):
    (pair,) = compare_pairs(
        {"gtu": dict.fromkeys(range(seeds), 1.0), "softmax": dict.fromkeys([*range(seeds), 7], 2.0)},
        higher_is_better=False,
    )
    assert pair.outcome == "no verdict"
    assert "no verdict from" in pair.sentence("bits per byte")


def test_equal_differences_that_are_not_zero_are_a_difference():
    (pair,) = pairs(gtu=[1.0, 2.0, 3.0], softmax=[1.5, 2.5, 3.5])
    assert pair.outcome == "behind"


def test_holm_widens_what_is_looked_at_together():
    """p of about 0.03 alone is a difference; beside another of 0.04 it is none."""
    near = [1.0, 1.1, 1.3]
    zero = [0.0, 0.0, 0.0]
    alone = pairs(first=zero, a=near)[0]
    assert alone.outcome != "no difference shown"
    p_value = stats.ttest_1samp(near, 0).pvalue
    beside = pairs(first=zero, a=near, b=near, c=near)
    assert [pair.p_value for pair in beside] == pytest.approx([3 * p_value] * 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_its_definition(p_values: list[float]):
    ordered = sorted(p_values)
    for p_value, adjusted in zip(p_values, holm(p_values), strict=True):
        rank = ordered.index(p_value)
        assert adjusted == max(min(1.0, (len(ordered) - i) * ordered[i]) for i in range(rank + 1))


@given(st.lists(st.lists(st.floats(-3, 3), min_size=4, max_size=4), min_size=1, max_size=4))
def test_an_outcome_is_stated_exactly_where_the_adjusted_interval_excludes_zero(others):
    for pair in pairs(first=[0.0] * 4, **{f"m{index}": values for index, values in enumerate(others)}):
        if pair.outcome in ("ahead", "behind", "no difference shown") and pair.adjusted[0] != pair.adjusted[1]:
            excludes = pair.adjusted[0] > 0 or pair.adjusted[1] < 0
            margin = min(abs(pair.adjusted[0]), abs(pair.adjusted[1]))
            assert excludes == (pair.outcome != "no difference shown") or margin < 1e-9


def test_the_interval_is_students():
    values = [1.0, 1.5, 2.5, 2.0]
    low, high = t_interval(values, 0.05)
    expected = stats.t.interval(0.95, 3, loc=1.75, scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected)
    assert math.isnan(t_interval([1.0], 0.05)[0])
