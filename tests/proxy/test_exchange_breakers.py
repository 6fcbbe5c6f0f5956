"""Breakers in front of every try: refusals, probes, and streams as probes."""

import pytest

from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from tests.proxy.world import World, message, policy

GRPC = [(b"content-type", b"application/grpc")]


def half_open(world: World, index: int = 0) -> None:
    """Bring an endpoint's breaker to where it lets a probe in."""
    world.open_breaker(index)
    while world.endpoints[index].breaker.state == OPEN:
        world.after(0.1)
    assert world.endpoints[index].breaker.state == HALF_OPEN


def test_an_open_breaker_is_gone_around() -> None:
    world = World()
    world.open_breaker(0)
    client = world.request("POST")
    world.last.answer()
    assert (client.status, world.asked) == (200, ["e1"])
    assert client.got(b"x-sidecar-attempts") is None
    world.at_rest()


@pytest.mark.parametrize("endpoints", [1, 3])
def test_all_open_is_answered_at_once(endpoints: int) -> None:
    world = World(endpoints)
    for index in range(endpoints):
        world.open_breaker(index)
    client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"breaker_open")
    assert client.got(b"x-sidecar-retry-skipped") is None
    call = world.call("/pkg.S/Get", message(b"q"))
    assert (call.grpc_status, call.got(b"x-sidecar-error")) == (b"14", b"breaker_open")
    assert not world.streams
    world.at_rest()


def test_failures_in_a_row_open_it_and_the_next_request_is_refused() -> None:
    world = World(1, breaker={"consecutive": 3}, retry=policy(attempts=1))
    for _ in range(3):
        world.request()
        world.last.fails(Failure.RESET)
    client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"breaker_open")
    world.at_rest()


def test_after_its_time_one_of_many_probes_and_its_success_closes() -> None:
    world = World(1, retry=policy(attempts=1))
    half_open(world)
    probe = world.request()
    others = [world.request() for _ in range(49)]
    assert [other.got(b"x-sidecar-error") for other in others] == [b"breaker_open"] * 49
    world.last.answer()
    assert probe.status == 200
    assert world.endpoints[0].breaker.state == CLOSED
    world.at_rest()


def test_a_probe_that_fails_opens_again() -> None:
    world = World(1, retry=policy(attempts=1))
    half_open(world)
    world.request()
    world.last.fails(Failure.RESET)
    assert world.endpoints[0].breaker.state == OPEN
    world.at_rest()


def test_refused_by_a_half_open_breaker_another_endpoint_is_picked() -> None:
    world = World(2)
    half_open(world)
    probe = world.request("POST")
    assert world.asked == ["e0"]
    other = world.request("POST")
    assert world.asked == ["e0", "e1"]
    world.streams[1].answer()
    world.streams[0].answer()
    assert (probe.status, other.status) == (200, 200)
    assert other.got(b"x-sidecar-attempts") is None
    world.at_rest()


@pytest.mark.parametrize("moment", ["dial", "head", "body"])
def test_a_cancelled_probe_hands_its_permit_back(moment: str) -> None:
    world = World(1, retry=policy(attempts=1))
    half_open(world)
    world.connector.by_hand = moment == "dial"
    client = world.request()
    if moment == "body":
        world.last.head(200)
        assert world.endpoints[0].breaker.state == CLOSED
    client.leaves()
    assert world.endpoints[0].breaker.state == (CLOSED if moment == "body" else HALF_OPEN)
    if moment == "dial":
        world.connector.connects()
        world.connector.by_hand = False
    probe = world.request()
    world.last.answer()
    assert probe.status == 200
    assert world.endpoints[0].breaker.state == CLOSED
    world.at_rest()


def test_a_stream_closes_a_breaker_when_it_is_established() -> None:
    world = World(1, retry=policy(attempts=1))
    half_open(world)
    stream = world.call("/pkg.S/Watch", message(b"q"))
    world.last.head(200, GRPC)
    assert world.endpoints[0].breaker.state == CLOSED
    # and its end, hours later, counts in the closed state
    world.after(200)
    world.last.data(message(b"news"))
    world.last.fails(Failure.RESET)
    assert stream.grpc_status == b"14"
    assert world.verdicts(0)[-2:] == [Verdict.SUCCESS, Verdict.FAILURE]
    assert world.endpoints[0].breaker.counts(world.clock.now) == (1, 1)
    assert world.endpoints[0].verdicts[Verdict.FAILURE] == 1, "one attempt is one verdict"
    assert world.endpoints[0].verdicts[Verdict.SUCCESS] == 0
    world.at_rest()


def test_an_established_stream_is_one_probe_of_two() -> None:
    world = World(1, breaker={"probes": 2}, retry=policy(attempts=1))
    half_open(world)
    one = world.call("/pkg.S/Watch", message(b"q"))
    world.last.head(200, GRPC)
    assert world.endpoints[0].breaker.state == HALF_OPEN
    world.request()
    world.last.answer()
    assert world.endpoints[0].breaker.state == CLOSED
    world.streams[0].trailers([(b"grpc-status", b"14")])
    assert one.grpc_status == b"14"
    assert world.endpoints[0].breaker.counts(world.clock.now) == (0, 0), "a probe counts once"
    world.at_rest()


def test_an_answer_that_begins_with_an_error_opens_again() -> None:
    world = World(1, retry=policy(attempts=1))
    half_open(world)
    client = world.request()
    world.last.head(503)
    assert world.endpoints[0].breaker.state == OPEN
    world.last.data(b"sorry", end=True)
    assert (client.status, client.body) == (503, b"sorry")
    world.at_rest()


def test_a_stream_from_before_it_opened_decides_nothing() -> None:
    world = World(1, retry=policy(attempts=1))
    world.call("/pkg.S/Watch", message(b"q"))
    old = world.last
    half_open(world)
    old.head(200, GRPC)
    assert world.endpoints[0].breaker.state == HALF_OPEN
    old.trailers([(b"grpc-status", b"0")])
    assert world.endpoints[0].breaker.state == HALF_OPEN
    world.at_rest()


def test_an_applications_unavailable_is_soft() -> None:
    world = World(1, breaker={"consecutive": 2, "min_requests": 10})
    for _ in range(5):
        world.call("/pkg.S/Pay", message(b"q"))
        world.last.answer_grpc(code=14)
    assert world.endpoints[0].breaker.state == CLOSED
    assert world.verdicts(0) == [Verdict.SOFT_FAILURE] * 5
    world.at_rest()


def test_waiters_of_an_endpoint_that_opens_go_elsewhere() -> None:
    world = World(2)
    world.connector.by_hand = True
    client = world.request("POST")
    world.open_breaker(0)
    with world.turn_of():
        pass
    assert [pool.endpoint.name for pool in world.connector.dials] == ["e0:80", "e1:80"]
    world.connector.connects()
    world.connector.connects()
    assert world.asked == ["e1"]
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_latency_is_observed_to_the_head_and_failures_are_not_fast() -> None:
    world = World(retry=policy(attempts=1))
    world.request()
    world.after(0.2)
    world.last.head(200)
    world.after(3)
    world.last.data(b"", end=True)
    world.request()
    world.last.answer(503)
    (_, fine), (_, failed) = world.balancer.observed
    assert (round(fine, 3), failed) == (0.2, 0.25)
    world.at_rest()


def test_an_endpoint_that_is_gone_is_left_to_its_breaker() -> None:
    world = World(retry=policy(attempts=1))
    for failure in (Failure.RESET, Failure.STALE_REUSE, Failure.REFUSED):
        world.request()
        world.last.fails(failure)
    assert world.balancer.observed == []
    world.at_rest()


@pytest.mark.parametrize("endpoints", [1, 2])
def test_when_nobody_is_left_an_endpoint_is_asked_again_soon(endpoints: int) -> None:
    # Given an outage of ten minutes, in which every probe failed
    world = World(endpoints, retry=policy(attempts=1))
    for index in range(endpoints):
        world.open_breaker(index)
    for _ in range(1200):
        world.after(0.5)
        client = world.request()
        if not client.ended:
            world.last.answer(503)

    # When it is over
    waited = 0.0
    while True:
        client = world.request()
        if not client.ended:
            world.last.answer()
            break
        world.after(0.1)
        waited += 0.1

    # Then nobody waits for the minute that one breaker alone would stay open
    assert waited <= 3.1
    assert client.status == 200
    world.at_rest()


def test_with_others_left_an_endpoint_that_fails_for_long_is_left_alone_for_long() -> None:
    # Given one endpoint of two that fails for minutes
    world = World(2, retry=policy(attempts=2))
    world.open_breaker(0)
    for _ in range(600):
        world.after(0.5)
        world.request()
        while not world.last.over:
            world.last.answer(503 if world.last.endpoint is world.endpoints[0] else 200)
    opened = sum(number for (_, new), number in world.endpoints[0].breaker.transitions.items() if new == OPEN)
    assert opened <= 12, "its open time doubled up to a minute"

    # When the other fails too, both are asked again soon
    world.open_breaker(1)
    assert all(each.breaker.open_until - world.clock.now <= 3.0 for each in world.endpoints)
    world.after(3.0)
    assert HALF_OPEN in {each.breaker.state for each in world.endpoints}
