"""Requests are rejected as often as a service fails them, and no longer than it does."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.admission import Admission, AdmissionPolicy
from sidecar.policy.priority import CRITICAL, DEFAULT, SHEDDABLE

ALL = (CRITICAL, DEFAULT, SHEDDABLE)


class Traffic:
    """`rate` requests per second of one priority, of which a part is served."""

    def __init__(self, rate: float = 500.0, policy: AdmissionPolicy | None = None, seed: int = 1) -> None:
        self.admission = Admission(policy or AdmissionPolicy(), Random(seed))
        self.rate = rate
        self.now = 0.0
        self.rng = Random(seed)

    def run(self, seconds: float, served: float, priority: int = DEFAULT) -> float:
        """Let time pass; the share that was let out."""
        asked = round(seconds * self.rate)
        out = 0
        for _ in range(asked):
            self.now += 1 / self.rate
            if not self.admission.rejects(priority, self.now):
                out += 1
                self.admission.record(self.rng.random() < served, self.now)
        return out / asked


def test_the_equation_of_the_book() -> None:
    # Given 100 requests of which 30 were served
    admission = Admission(AdmissionPolicy(k=2.0), Random(1))
    for number in range(100):
        admission.record(number < 30, 1.0)

    # Then (requests - k * served) / (requests + 1), with more patience for the critical
    assert admission.probability(DEFAULT, 1.0) == pytest.approx((100 - 2 * 30) / 101)
    assert admission.probability(SHEDDABLE, 1.0) == pytest.approx((100 - 1.5 * 30) / 101)
    assert admission.probability(CRITICAL, 1.0) == 0.0


@pytest.mark.parametrize("served", [1.0, 0.8, 0.6])
def test_while_half_of_them_are_served_nobody_is_rejected(served: float) -> None:
    traffic = Traffic()
    traffic.run(10, 1.0)

    assert traffic.run(30, served) > 0.99


def test_when_nobody_is_served_a_tenth_goes_on_asking() -> None:
    traffic = Traffic()
    traffic.run(10, 1.0)
    traffic.run(3, 0.0)

    assert traffic.run(10, 0.0) == pytest.approx(0.1, abs=0.03)
    assert traffic.admission.rejected[DEFAULT] > 4000


def test_a_service_in_trouble_gets_about_k_times_what_it_serves() -> None:
    # Given a service that serves 50 of 500 per second, however many it is asked for
    traffic = Traffic(rate=500)
    traffic.run(10, 1.0)
    out, seconds = 1.0, 0
    while seconds < 20:
        out = traffic.run(1, min(1.0, 50 / (500 * out)))
        seconds += 1

    sent = traffic.run(10, min(1.0, 50 / (500 * out))) * 500

    assert 60 < sent < 160


@pytest.mark.parametrize("rate", [20.0, 1000.0])
@pytest.mark.parametrize("outage", [3.0, 60.0])
def test_five_seconds_after_the_end_everybody_gets_in(rate: float, outage: float) -> None:
    traffic = Traffic(rate)
    traffic.run(10, 1.0)
    traffic.run(outage, 0.0)

    traffic.run(4.5, 1.0)

    assert traffic.run(2, 1.0) > 0.97


def test_what_is_less_important_is_rejected_first() -> None:
    # Given a service that serves two in five
    shares = []
    for priority in ALL:
        traffic = Traffic()
        traffic.run(10, 1.0)
        traffic.run(5, 0.4)
        for _ in range(500):
            # the same history for each
            traffic.admission.record(traffic.rng.random() < 0.4, traffic.now)
        shares.append(traffic.admission.probability(priority, traffic.now))

    assert shares[CRITICAL] == 0.0
    assert shares[CRITICAL] < shares[DEFAULT] < shares[SHEDDABLE]


@pytest.mark.parametrize(("served", "most"), [(0.2, 0.7), (0.3, 0.05)])
def test_in_deep_trouble_the_less_important_goes_first_as_well(served: float, most: float) -> None:
    # Given a service that fails most of what it is asked, for as many of each priority
    traffic = Traffic(rate=300)
    asked, out = [0, 0, 0], [0, 0, 0]
    while traffic.now < 30.0:
        for priority in ALL:
            traffic.now += 1 / traffic.rate
            asked[priority] += 1
            if not traffic.admission.rejects(priority, traffic.now):
                out[priority] += 1
                traffic.admission.record(traffic.rng.random() < served, traffic.now)

    # Then what is kept out of the others is not held against the critical
    rejected = [1 - out[priority] / asked[priority] for priority in ALL]
    assert rejected[CRITICAL] < most
    assert rejected[CRITICAL] + 0.2 < rejected[DEFAULT] < rejected[SHEDDABLE]


def test_a_few_requests_say_nothing() -> None:
    admission = Admission(AdmissionPolicy(min_requests=10), Random(1))
    for _ in range(9):
        admission.record(False, 1.0)
    assert admission.probability(SHEDDABLE, 1.0) == 0.0

    admission.record(False, 1.0)
    assert admission.probability(SHEDDABLE, 1.0) > 0.8


def test_what_is_long_ago_is_forgotten() -> None:
    admission = Admission(AdmissionPolicy(), Random(1))
    for _ in range(1000):
        admission.record(False, 1.0)

    assert admission.probability(DEFAULT, 1.5) == 0.9
    assert admission.probability(DEFAULT, 3.2) == 0.0


def test_a_change_keeps_what_was_counted() -> None:
    admission = Admission(AdmissionPolicy(), Random(1))
    for number in range(100):
        admission.record(number < 40, 1.0)

    admission.configure(AdmissionPolicy(k=1.0, max_rejection=0.5))

    assert admission.probability(DEFAULT, 1.0) == 0.5
    assert admission.probability(CRITICAL, 1.0) == pytest.approx(20 / 101)


@given(
    served=st.integers(0, 500),
    failed=st.integers(0, 500),
    k=st.floats(1, 10),
    max_rejection=st.floats(0, 1),
)
def test_the_order_of_priorities_and_the_bounds_always_hold(
    served: int, failed: int, k: float, max_rejection: float
) -> None:
    admission = Admission(AdmissionPolicy(k=k, max_rejection=max_rejection), Random(1))
    for number in range(served + failed):
        admission.record(number < served, 1.0)

    found = [admission.probability(priority, 1.0) for priority in ALL]

    assert found == sorted(found)
    assert found[0] >= 0.0
    assert found[-1] <= max_rejection
