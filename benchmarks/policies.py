"""What each policy adds to a request: breaker, budget, limit, balancers, timers."""

import asyncio
import random
import time
from collections.abc import Callable

from benchmarks.measure import Effort, Figure, best
from sidecar.model.address import Address
from sidecar.model.meters import Histogram
from sidecar.model.outcome import Verdict
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.limit import Limit
from sidecar.upstream.balance.make import POLICIES, make_balancer
from sidecar.upstream.endpoint import Endpoint
from sidecar.wire.timers import Timers
from sidecar.wire.turn import Turn

_ENDPOINTS = 10
_POLICY = {
    "window": 10.0,
    "failure_ratio": 0.5,
    "min_requests": 10,
    "consecutive": 5,
    "open_base": 1.0,
    "open_max": 60.0,
    "probes": 1,
}


def _breaker(name: str) -> Breaker:
    return Breaker(name=name, rng=random.Random(1), clock=time.monotonic, **_POLICY)  # type: ignore[arg-type]


def _breaker_round(count: int) -> None:
    breaker = _breaker("benchmark")
    now = time.monotonic()
    success = Verdict.SUCCESS
    for _ in range(count):
        breaker.record(breaker.admit(now), success, now)


def _budget_round(count: int) -> None:
    budget = Budget(0.2, 10.0)
    now = time.monotonic()
    for _ in range(count):
        budget.deposit(now)


def _limit_round(count: int) -> None:
    limit = Limit(1024)
    for _ in range(count):
        limit.try_acquire()
        limit.release()


def _meter_round(count: int) -> None:
    histogram = Histogram()
    for _ in range(count):
        histogram.record(0.003)


def _timer_round(count: int) -> None:
    loop = asyncio.new_event_loop()
    timers = Timers(loop, Turn(loop), time.monotonic)
    waiting = _Waiting()
    for _ in range(count):
        timers.cancel(timers.add(15.0, waiting))
    timers.close()
    loop.close()


class _Waiting:
    def on_timer(self, token: int) -> None:
        """Never: it is cancelled first."""


def _balancer_round(policy: str) -> Callable[[int], None]:
    """A pick, and what is told of it afterwards, among ten endpoints."""
    endpoints = [Endpoint(Address("10.0.0.1", 8000 + each), _breaker(str(each))) for each in range(_ENDPOINTS)]
    balancer = make_balancer(policy, rng=random.Random(1), slow_start=0.0)
    balancer.update(endpoints)

    def run(count: int) -> None:
        now = time.monotonic()
        for key in range(count):
            endpoint = balancer.pick((), key, now)
            assert endpoint is not None
            balancer.observe(endpoint, 0.002, now)

    return run


def figures(effort: Effort) -> list[Figure]:
    """Time of one operation each."""
    rounds: dict[str, Callable[[int], None]] = {
        "breaker: admit and record": _breaker_round,
        "budget: deposit": _budget_round,
        "limit: take and give back": _limit_round,
        "histogram: record": _meter_round,
        "timer: add and cancel": _timer_round,
    }
    rounds |= {f"{policy}: pick and observe, {_ENDPOINTS} endpoints": _balancer_round(policy) for policy in POLICIES}
    return [Figure("policies", name, best(effort, call), "us") for name, call in rounds.items()]
