"""The limit finds what a service takes at once, and finds it again when that changes.

By simulation (queueing.py): an open loop of requests through the limit to a service with
a queue, in its own time. Bounds are wide against the figures seen, and every run is the
same, for clock and randomness are given.
"""

from math import exp
from random import Random

import pytest

from sidecar.policy.adaptive import AdaptiveLimit, AdaptivePolicy
from tests.policy.queueing import Second, Service, Simulation, noisy, steady

SERVICE = 0.02  # seconds
SERVERS = 20
CAPACITY = SERVERS / SERVICE / exp(0.5**2 / 2)  # requests per second; the mean of `noisy`

# What stands for no limit at all.
NO_LIMIT = AdaptivePolicy(minimum=1_000_000, maximum=1_000_000, initial=1_000_000)


def done(seconds: list[Second]) -> float:
    """Answers per second."""
    return sum(second.done for second in seconds) / len(seconds)


def percentile(seconds: list[Second], part: float) -> float:
    """A percentile of all latencies, in seconds."""
    latencies = sorted(latency for second in seconds for latency in second.latencies)
    return latencies[int(len(latencies) * part)]


def refused(seconds: list[Second]) -> float:
    """The share of requests that were refused."""
    return sum(second.refused for second in seconds) / sum(second.offered for second in seconds)


@pytest.mark.parametrize("service", [steady(SERVICE), noisy(SERVICE, 0.5)], ids=["steady", "noisy"])
def test_overload_costs_neither_goodput_nor_latency(service: Service) -> None:
    # Given three times the load that the service takes, from the start
    simulation = Simulation(servers=SERVERS, service=service, rate=3 * CAPACITY)
    simulation.run(5)

    seconds = simulation.run(20)

    assert done(seconds) > 0.95 * CAPACITY
    assert percentile(seconds, 0.5) < 2.5 * SERVICE
    assert 0.6 < refused(seconds) < 0.75


def test_without_a_limit_the_same_load_serves_nobody() -> None:
    # Given clients that wait a quarter of a second, and a service that does not see them go
    def world(policy: AdaptivePolicy) -> list[Second]:
        simulation = Simulation(
            servers=SERVERS, service=noisy(SERVICE), rate=3 * CAPACITY, policy=policy, patience=0.25
        )
        simulation.run(5)
        return simulation.run(10)

    # Then the queue alone takes longer than that; with a limit nearly nobody leaves
    assert done(world(NO_LIMIT)) < 0.01 * CAPACITY
    assert done(world(AdaptivePolicy())) > 0.9 * CAPACITY


@pytest.mark.parametrize(
    ("servers", "seconds", "sigma"),
    [
        (2, 0.002, 0.5),
        (5, 0.02, 0.0),
        (5, 0.02, 0.5),
        (20, 0.2, 0.5),
        (20, 0.002, 1.0),
        (100, 0.02, 0.5),
        (400, 0.2, 0),
    ],
)
def test_services_of_any_size_are_used_to_the_full(servers: int, seconds: float, sigma: float) -> None:
    capacity = servers / seconds / exp(sigma**2 / 2)
    simulation = Simulation(servers=servers, service=noisy(seconds, sigma), rate=1.5 * capacity)
    simulation.run(20)

    after = simulation.run(10)

    assert done(after) > 0.85 * capacity
    assert percentile(after, 0.5) < 4 * seconds


def test_light_load_is_never_refused() -> None:
    simulation = Simulation(servers=SERVERS, service=noisy(SERVICE), rate=0.5 * CAPACITY)

    seconds = simulation.run(120)

    assert refused(seconds) == 0.0
    assert simulation.limit.limit < 120, "a limit that nobody comes near does not grow for ever"


def test_a_burst_after_light_load_meets_a_limit_that_is_ready() -> None:
    simulation = Simulation(servers=SERVERS, service=noisy(SERVICE), rate=0.3 * CAPACITY)
    simulation.run(20)

    simulation.rate = 5 * CAPACITY
    seconds = simulation.run(5)

    assert min(second.done for second in seconds) > 0.85 * CAPACITY
    assert percentile(seconds, 0.5) < 3 * SERVICE


def test_capacity_falls_and_comes_back() -> None:
    # Given a service that is well used
    simulation = Simulation(servers=SERVERS, service=noisy(SERVICE), rate=CAPACITY)
    simulation.run(10)

    # When three quarters of it go away
    simulation.servers = SERVERS // 4
    low = simulation.run(10)

    # Then the rest is used, with a short queue
    assert done(low[2:]) > 0.85 * CAPACITY / 4
    assert percentile(low[2:], 0.5) < 3 * SERVICE
    assert low[-1].highest < SERVERS

    # When they are back, so is goodput
    simulation.servers = SERVERS
    back = simulation.run(10)
    assert done(back[2:]) > 0.9 * CAPACITY


def test_a_service_that_became_slower_is_not_throttled_for_it() -> None:
    # Given a service with room for all, in which each request now takes five times as long
    simulation = Simulation(servers=200, service=noisy(SERVICE), rate=2000)
    simulation.run(10)
    simulation.service = noisy(5 * SERVICE)
    capacity = 200 / (5 * SERVICE) / exp(0.5**2 / 2)

    # When the limit has found out that less brings nothing
    seconds = simulation.run(12)

    # Then the service is used to the full again, seconds later
    assert min(second.done for second in seconds[2:]) > 0.65 * capacity
    assert done(seconds[2:]) > 0.85 * capacity
    assert percentile(seconds[2:], 0.5) < 2 * 5 * SERVICE

    # And when it is quick again, latency is believed
    simulation.service = noisy(SERVICE)
    quick = simulation.run(5)
    assert refused(quick[1:]) == 0.0
    assert simulation.limit.baseline < 1.5 * SERVICE


@pytest.mark.parametrize("sigma", [0.0, 0.5], ids=["steady", "noisy"])
@pytest.mark.parametrize("slower", [1.8, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("at_once", [20, 45])
def test_somewhat_slower_is_found_out_as_well(slower: float, at_once: int, sigma: float) -> None:
    # Given a service with room for all, whose latency passes what is tolerated by so little that the
    # limit, with its room for trying more, would come to rest before less of it was tried
    before, after = noisy(0.1, sigma), noisy(slower * 0.1, sigma)
    simulation = Simulation(servers=10_000, service=before, rate=at_once / (slower * 0.1))
    simulation.run(20)

    simulation.service = after
    simulation.run(30)

    assert refused(simulation.run(60)) == 0.0


def test_measuring_anew_collapses_nothing() -> None:
    # Given five minutes of overload, in which the minimum is measured again and again
    simulation = Simulation(servers=SERVERS, service=noisy(SERVICE), rate=2 * CAPACITY)
    simulation.run(10)

    seconds = simulation.run(300)

    assert min(second.lowest for second in seconds) < SERVERS, "it was measured"
    assert done(seconds) > 0.97 * CAPACITY
    assert min(second.done for second in seconds) > 0.7 * CAPACITY
    assert 0.5 * SERVICE < simulation.limit.baseline < 1.5 * SERVICE, "and it did not drift"


def test_a_start_under_load_is_corrected() -> None:
    # Given a first latency that is nearly all queue
    simulation = Simulation(servers=5, service=noisy(SERVICE), rate=2000, policy=AdaptivePolicy(initial=200), seed=3)
    first = simulation.run(1)
    assert percentile(first, 0.9) > 10 * SERVICE

    seconds = simulation.run(20)

    assert percentile(seconds[-5:], 0.5) < 3 * SERVICE
    assert done(seconds[-5:]) > 0.85 * CAPACITY / 4


def test_a_service_that_answers_nobody_is_left_with_the_minimum() -> None:
    # Given a limit that knows its service
    limit = AdaptiveLimit(AdaptivePolicy(), Random(1), 0.0)
    now = 0.0
    for _ in range(200):
        now += 0.01
        limit.observe(now - 0.02, 0.02, 10, now)

    # When every request runs into its deadline of a second
    for _ in range(2000):
        now += 0.05
        limit.at_least(now - 1.0, 1.0, limit.limit, now)

    assert limit.limit == AdaptivePolicy().minimum


def test_who_gave_up_early_says_nothing() -> None:
    limit = AdaptiveLimit(AdaptivePolicy(initial=10), Random(1), 0.0)
    now = 0.0
    for _ in range(100):
        now += 0.01
        limit.observe(now - 0.02, 0.02, 2, now)
    baseline = limit.baseline

    for _ in range(1000):
        now += 0.01
        assert not limit.at_least(now - 0.001, 0.001, 2, now)

    assert limit.baseline == baseline
    assert limit.limit == 10


def test_what_began_before_a_cut_says_nothing_of_it() -> None:
    # Given a limit that was just cut
    limit = AdaptiveLimit(AdaptivePolicy(initial=100), Random(1), 0.0)
    now = 0.0
    for _ in range(40):
        now += 0.01
        limit.observe(now - 0.02, 0.02, 100, now)
    while limit.limit >= 100:
        now += 0.01
        limit.observe(now - 0.2, 0.2, 100, now)
    cut, at = limit.limit, now

    # When answers arrive to requests that began before
    for _ in range(500):
        now += 0.001
        limit.observe(at - 0.1, now - at + 0.1, 100, now)

    assert limit.limit == cut


def test_the_bounds_hold_and_change_in_place() -> None:
    simulation = Simulation(
        servers=SERVERS, service=steady(SERVICE), rate=3 * CAPACITY, policy=AdaptivePolicy(minimum=8, maximum=12)
    )
    assert simulation.limit.limit == 12, "the initial limit keeps the bounds too"
    seconds = simulation.run(10)
    assert (min(second.lowest for second in seconds), max(second.highest for second in seconds)) == (12, 12)

    simulation.limit.configure(AdaptivePolicy(minimum=2, maximum=1024))
    assert simulation.limit.limit == 12, "what was learned stays"
    simulation.run(10)
    assert SERVERS <= simulation.limit.limit < 2.5 * SERVERS


def test_sidecars_do_not_dip_together() -> None:
    # Given two sidecars that see the same
    one, other = (AdaptiveLimit(AdaptivePolicy(initial=100), Random(seed), 0.0) for seed in (1, 2))
    dips: list[list[float]] = [[], []]
    now = 0.0
    while now < 60.0:
        now += 0.005
        # a queue that is always somewhat longer than none
        latency = 0.02 if now < 0.2 else 0.03
        for limit, seen in ((one, dips[0]), (other, dips[1])):
            before = limit.limit
            limit.observe(now - latency, latency, before, now)
            if limit.limit <= 0.75 * before:
                seen.append(now)

    # Then each lowers its limit now and then, at moments of its own
    assert len(dips[0]) >= 3
    assert len(dips[1]) >= 3
    assert not {round(moment, 1) for moment in dips[0]} & {round(moment, 1) for moment in dips[1]}
