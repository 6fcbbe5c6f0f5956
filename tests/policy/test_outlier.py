"""Who fails more than the others, and for how long it is out."""

from random import Random

import pytest

from sidecar.policy.outlier import OutlierPolicy, Outliers


class Fleet:
    """Endpoints by name; each interval gives each of them so many successes and failures."""

    def __init__(self, **policy: object) -> None:
        self.outliers: Outliers[str] = Outliers(OutlierPolicy(**policy))  # type: ignore[arg-type]
        self.counts: dict[str, tuple[int, int]] = {}

    def look(self, **interval: tuple[int, int]) -> list[str]:
        """The names of the outliers after an interval, the worst first."""
        return self.look_without("", **interval)

    def look_without(self, out: str, **interval: tuple[int, int]) -> list[str]:
        """The same while one is out."""
        for name, (successes, failures) in interval.items():
            before = self.counts.get(name, (0, 0))
            self.counts[name] = (before[0] + successes, before[1] + failures)
        return [outlier.key for outlier in self.outliers.look(self.counts, frozenset(out))]


GOOD, BAD, HALF = (200, 0), (0, 200), (100, 100)


@pytest.mark.parametrize("others", [2, 3, 4, 20])
def test_one_that_fails_is_found_among_any_number(others: int) -> None:
    fleet = Fleet()
    assert fleet.look(**{f"e{index}": GOOD for index in range(others)}, bad=HALF) == ["bad"]


def test_two_that_fail_do_not_hide_each_other() -> None:
    assert Fleet().look(a=GOOD, b=GOOD, c=GOOD, d=BAD, e=HALF) == ["d", "e"]


def test_half_of_them_may_fail() -> None:
    assert Fleet().look(a=GOOD, b=BAD, c=GOOD, d=BAD) == ["b", "d"]


def test_where_most_fail_nobody_is_an_outlier() -> None:
    assert Fleet().look(a=GOOD, b=BAD, c=BAD) == []
    assert Fleet().look(a=BAD, b=BAD, c=BAD) == []
    assert Fleet().look(a=HALF, b=HALF, c=HALF) == []


def test_a_service_that_fails_a_little_everywhere_loses_nobody() -> None:
    rng = Random(1)
    fleet = Fleet()
    for _ in range(200):
        failures = {f"e{index}": sum(rng.random() < 0.05 for _ in range(200)) for index in range(10)}
        assert fleet.look(**{name: (200 - count, count) for name, count in failures.items()}) == []


def test_a_few_failures_where_nobody_else_has_any_are_none_to_speak_of() -> None:
    assert Fleet().look(a=GOOD, b=GOOD, c=(190, 10)) == []
    assert Fleet().look(a=GOOD, b=GOOD, c=(180, 20)) == ["c"]


def test_where_rates_differ_anyway_more_is_needed() -> None:
    # Given success rates from 80 to 100 %: 1.9 deviations below 90 % are 76 %
    spread = {"a": (160, 40), "b": (170, 30), "c": (180, 20), "d": (190, 10), "e": (200, 0)}
    assert Fleet().look(**spread, f=(156, 44)) == []
    assert Fleet().look(**spread, f=(100, 100)) == ["f"]
    assert Fleet(stdev_factor=1.0).look(**spread, f=(156, 44)) == ["f", "a"]


def test_too_few_requests_say_nothing() -> None:
    assert Fleet().look(a=GOOD, b=GOOD, c=(0, 99)) == []
    assert Fleet().look(a=GOOD, b=GOOD, c=(0, 100)) == ["c"]
    assert Fleet(min_requests=10).look(a=GOOD, b=GOOD, c=(0, 10)) == ["c"]


def test_too_few_endpoints_cannot_be_compared() -> None:
    assert Fleet().look(a=GOOD, b=BAD) == []
    assert Fleet().look(a=GOOD, b=BAD, c=(1, 0)) == [], "c has too few requests to be one of three"
    assert Fleet(min_endpoints=5).look(a=GOOD, b=GOOD, c=GOOD, d=BAD) == []


def test_each_interval_stands_for_itself() -> None:
    fleet = Fleet()
    assert fleet.look(a=GOOD, b=GOOD, c=BAD) == ["c"]
    assert fleet.look(a=GOOD, b=GOOD, c=GOOD) == []
    assert fleet.look() == []
    assert fleet.look(a=GOOD, b=GOOD, c=BAD) == ["c"]


def test_who_is_out_is_not_compared() -> None:
    fleet = Fleet()
    assert fleet.look(a=GOOD, b=GOOD, c=GOOD, d=BAD) == ["d"]
    # What still ended there while it was out is not counted when it is back
    assert fleet.look_without("d", a=GOOD, b=GOOD, c=GOOD, d=BAD) == []
    assert fleet.look(a=GOOD, b=GOOD, c=GOOD, d=GOOD) == []


def test_longer_each_time_and_forgiven_step_by_step() -> None:
    fleet = Fleet(base=30.0, max=100.0)
    times = []
    for _ in range(5):
        assert fleet.look(a=GOOD, b=GOOD, c=BAD) == ["c"]
        times.append(fleet.outliers.eject("c"))
        fleet.look_without("c", a=GOOD, b=GOOD)  # an interval outside is no merit
    assert times == [30.0, 60.0, 90.0, 100.0, 100.0]

    for _ in range(1 + 4):  # in the first it was out for a part
        fleet.look(a=GOOD, b=GOOD, c=GOOD)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 60.0


def test_an_outlier_that_was_spared_is_not_forgiven_for_it() -> None:
    fleet = Fleet(base=30.0)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 30.0
    for _ in range(3):
        fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 60.0


def test_who_was_out_for_less_than_an_interval_is_not_forgiven_for_that_one() -> None:
    fleet = Fleet(base=5.0)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 5.0
    fleet.look(a=GOOD, b=GOOD, c=GOOD)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 10.0


def test_who_is_gone_is_forgotten() -> None:
    fleet = Fleet(base=30.0)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 30.0
    del fleet.counts["c"]
    fleet.look(a=GOOD, b=GOOD)
    fleet.look(a=GOOD, b=GOOD, c=BAD)
    assert fleet.outliers.eject("c") == 30.0


def test_what_it_says_of_an_outlier() -> None:
    outliers: Outliers[str] = Outliers(OutlierPolicy())
    (found,) = outliers.look({"a": (200, 0), "b": (200, 0), "c": (100, 100)}, frozenset())
    assert (found.key, found.rate) == ("c", 0.5)
    assert found.threshold == pytest.approx(1 - 1.9 * 0.05)
