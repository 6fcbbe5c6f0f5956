"""Breakers for tests: the default policy, unless a test says otherwise."""

from random import Random
from typing import Any

from sidecar.model.outcome import Verdict
from sidecar.policy.breaker import REFUSED, Breaker
from tests.support.clock import FakeClock

POLICY: dict[str, Any] = {
    "window": 10.0,
    "failure_ratio": 0.5,
    "min_requests": 10,
    "consecutive": 5,
    "open_base": 1.0,
    "open_max": 60.0,
    "probes": 1,
}


class FixedRandom(Random):
    """Always draws the same number in [0, 1)."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


def make_breaker(clock: FakeClock, rng: Random | None = None, **policy: Any) -> Breaker:
    """A closed breaker; `policy` replaces values of POLICY. No jitter unless `rng` is given."""
    return Breaker(name="b", rng=rng or FixedRandom(0.0), clock=clock, **{**POLICY, **policy})


def attempts(breaker: Breaker, clock: FakeClock, *verdicts: Verdict) -> None:
    """One attempt after the other, each admitted and recorded."""
    for verdict in verdicts:
        permit = breaker.admit(clock())
        assert permit != REFUSED
        breaker.record(permit, verdict, clock())


def trip(breaker: Breaker, clock: FakeClock) -> None:
    """Fail until it opens."""
    while (permit := breaker.admit(clock())) != REFUSED:
        breaker.record(permit, Verdict.FAILURE, clock())
