"""Histograms."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.meters import BOUNDS, Histogram


def bucket_of(seconds: float) -> int:
    histogram = Histogram()
    histogram.record(seconds)
    return histogram.counts.index(1)


@given(st.floats(0.0, 1000.0))
def test_a_value_is_at_most_its_bound_and_above_the_one_before(seconds: float) -> None:
    assert bucket_of(seconds) == bisect_left(BOUNDS, seconds)


@pytest.mark.parametrize("index", range(len(BOUNDS)))
def test_a_bound_is_in_its_own_bucket(index: int) -> None:
    assert bucket_of(BOUNDS[index]) == index


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_nothing_is_too_small(seconds: float) -> None:
    assert bucket_of(seconds) == 0


@pytest.mark.parametrize("seconds", [129.0, 1e9])
def test_nothing_is_too_large(seconds: float) -> None:
    assert bucket_of(seconds) == len(BOUNDS)


def test_sums_and_quantiles() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0.0
    for _ in range(99):
        histogram.record(0.003)
    histogram.record(3.0)
    assert histogram.count == 100
    assert histogram.total == pytest.approx(3.297)
    assert histogram.quantile(0.5) == 2.0**-8
    assert histogram.quantile(0.99) == 2.0**-8
    assert histogram.quantile(1.0) == 4.0
    histogram.record(1e6)
    assert histogram.quantile(1.0) == BOUNDS[-1]
