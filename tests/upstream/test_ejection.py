"""Ejection and panic on a real cluster: who is out, who is back, and what is told of it."""

from typing import Any

import pytest

from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.outlier import OutlierPolicy
from tests.proxy.world import World, message, policy
from tests.upstream.test_cluster import usable

NO_BREAKER: dict[str, Any] = {"consecutive": 0, "min_requests": 1_000_000}


def world_of(endpoints: int = 4, *, breaker: dict[str, Any] | None = None, **knobs: Any) -> World:
    """A world whose cluster ejects after 10 s, for 30 s."""
    world = World(endpoints, breaker=NO_BREAKER if breaker is None else breaker, retry=policy(attempts=1))
    world.cluster.eject_outliers(OutlierPolicy(**knobs))
    return world


def serves(world: World, *indices: int, fails: tuple[int, ...] = (), count: int = 100) -> None:
    """What each endpoint's attempts came to in an interval."""
    for index in indices or range(len(world.endpoints)):
        verdicts = world.endpoints[index].verdicts
        verdicts[Verdict.FAILURE if index in fails else Verdict.SUCCESS] += count


def told(world: World, kind: str) -> list[dict[str, Any]]:
    return [fields for each, fields in world.events if each == kind]


# -------------------------------------------------------------------------- ejection


def test_who_fails_more_than_the_others_is_out_for_a_while() -> None:
    # Given an endpoint that fails while the others do not
    world = world_of()
    serves(world, fails=(2,))
    world.after(9.9)
    assert usable(world) == ["e0", "e1", "e2", "e3"]

    # When the interval ends, it is out, and who looks is told why
    world.after(0.2)
    assert usable(world) == ["e0", "e1", "e3"]
    assert world.endpoints[2].ejections == 1
    assert told(world, "ejection") == [
        {
            "cluster": "users",
            "endpoint": "e2:80",
            "ejected": True,
            "success_rate": 0.0,
            "threshold": pytest.approx(0.905),
            "seconds": 30.0,
        }
    ]

    # Then it comes back after 30 s, as one that starts slowly
    world.after(29.8)
    assert usable(world) == ["e0", "e1", "e3"]
    world.after(0.2)
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    assert told(world, "ejection")[-1] == {"cluster": "users", "endpoint": "e2:80", "ejected": False}
    assert world.endpoints[2].ready_since == pytest.approx(world.clock.now, abs=0.2)
    assert not world.cluster.panic


def test_longer_the_next_time() -> None:
    world = world_of()
    outs: list[float] = []
    for _ in range(3):
        while not world.endpoints[1].ejected:
            serves(world, fails=(1,))
            world.after(10.0)
        began = world.clock.now
        while world.endpoints[1].ejected:
            world.after(1.0)
        outs.append(world.clock.now - began)
    assert outs == [pytest.approx(30.0, abs=1.1), pytest.approx(60.0, abs=1.1), pytest.approx(90.0, abs=1.1)]


def test_no_more_than_the_share_go_and_the_worst_first() -> None:
    # Given two of five that fail, and that at most 30 % may be out
    world = world_of(5, max_ejected=0.3)
    serves(world, 0, 1, 2)
    serves(world, 3, fails=(3,), count=60)
    serves(world, 3, count=60)
    serves(world, 4, fails=(4,))
    world.after(10.1)
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    assert not world.cluster.panic


def test_one_may_always_go_where_there_are_others() -> None:
    world = world_of(3, max_ejected=0.1)
    serves(world, fails=(0,))
    world.after(10.1)
    assert usable(world) == ["e1", "e2"]
    assert not world.cluster.panic


def test_who_is_out_by_other_means_counts() -> None:
    # Given four of which two are out already: by health check, and by breaker
    world = world_of(5, breaker={"open_base": 1000.0, "open_max": 1000.0})
    world.open_breaker(0)
    world.cluster.set_health(world.endpoints[1], False)
    assert not world.cluster.panic

    # When a third fails, it stays in: ejection alone never comes to panic
    serves(world, 2, 3, 4, fails=(3,))
    world.after(10.1)
    assert not world.endpoints[3].ejected
    assert not world.cluster.panic

    # Until there is room for it
    world.cluster.set_health(world.endpoints[1], True)
    serves(world, 1, 2, 3, 4, fails=(3,))
    world.after(10.0)
    assert world.endpoints[3].ejected
    assert usable(world) == ["e1", "e2", "e4"]


def test_a_drained_endpoint_is_none() -> None:
    world = world_of(3)
    world.cluster.drain(world.endpoints[0], 3600.0)
    serves(world, fails=(2,))
    world.after(10.1)
    assert usable(world) == ["e1"]
    assert not world.cluster.panic


def test_what_the_breakers_hear_is_what_counts() -> None:
    # Given requests that really fail at one of three
    world = world_of(3, min_requests=5)
    world.cluster.balance("in_turns", Turns())
    for number in range(30):
        client = world.request()
        world.last.answer(500 if number % 3 == 1 else 200)
        assert client.ended
    world.after(10.1)
    assert [endpoint.ejected for endpoint in world.endpoints] == [False, True, False]
    for _ in range(6):
        world.request()
        world.last.answer()
    assert world.asked[-6:] == ["e0", "e2"] * 3
    world.at_rest()


class Turns:
    """A balancer that takes each in turn."""

    def __init__(self) -> None:
        self.endpoints: tuple[Any, ...] = ()
        self.turn = -1

    def update(self, endpoints: Any) -> None:
        self.endpoints = tuple(endpoints)
        self.turn = -1

    def pick(self, tried: Any, key: int, now: float) -> Any:
        left = [endpoint for endpoint in self.endpoints if endpoint not in tried]
        self.turn += 1
        return left[self.turn % len(left)] if left else None

    def observe(self, endpoint: Any, seconds: float, now: float) -> None:
        """Latency is of no interest."""


def test_off_again_and_everybody_is_back() -> None:
    world = world_of()
    serves(world, fails=(2,))
    world.after(10.1)
    world.cluster.eject_outliers(None)
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    serves(world, fails=(2,))
    world.after(60.0)
    assert usable(world) == ["e0", "e1", "e2", "e3"]

    # And on once more: what happened meanwhile is no reason
    world.cluster.eject_outliers(OutlierPolicy())
    serves(world)
    world.after(10.1)
    assert usable(world) == ["e0", "e1", "e2", "e3"]


def test_another_policy_changes_nothing_of_what_is() -> None:
    world = world_of()
    serves(world, fails=(2,))
    world.after(10.1)
    world.cluster.eject_outliers(OutlierPolicy(interval=5.0, base=60.0))
    assert usable(world) == ["e0", "e1", "e3"]
    world.after(30.0)
    assert usable(world) == ["e0", "e1", "e2", "e3"]


def test_an_endpoint_that_was_removed_while_it_was_out() -> None:
    world = world_of()
    serves(world, fails=(2,))
    world.after(10.1)
    with world.turn_of():
        world.cluster.replace_endpoints([endpoint for endpoint in world.endpoints if not endpoint.ejected])
    world.after(60.0)
    assert usable(world) == ["e0", "e1", "e3"]
    assert len(told(world, "ejection")) == 1


def test_a_closed_cluster_looks_no_more() -> None:
    world = world_of()
    with world.turn_of():
        world.cluster.close()
    assert not world.timers.waiting


# ----------------------------------------------------------------------------- panic


def test_when_too_many_are_unhealthy_all_are_used_and_it_is_told() -> None:
    # Given four of which two are out: half, and not more
    world = world_of()
    world.cluster.set_health(world.endpoints[0], False)
    world.cluster.set_health(world.endpoints[1], False)
    assert usable(world) == ["e2", "e3"]

    # When a third is
    world.cluster.set_health(world.endpoints[2], False)

    # Then the word of the health checks is not heeded any more, which is no secret
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    assert (world.cluster.panic, world.cluster.panics) == (True, 1)
    assert told(world, "panic") == [{"cluster": "users", "panic": True, "out": 3, "of": 4}]
    client = world.request()
    world.last.answer()
    assert client.got(b"x-sidecar-panic") == b"3 of 4 endpoints are out"

    # And it ends when one is well again
    world.cluster.set_health(world.endpoints[0], True)
    assert usable(world) == ["e0", "e3"]
    assert told(world, "panic")[-1] == {"cluster": "users", "panic": False, "out": 2, "of": 4}
    client = world.request()
    world.last.answer()
    assert client.got(b"x-sidecar-panic") is None
    world.at_rest()


@pytest.mark.parametrize("endpoints", [1, 2, 3])
def test_all_unhealthy(endpoints: int) -> None:
    world = world_of(endpoints)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    assert len(usable(world)) == endpoints
    client = world.request()
    world.last.answer()
    assert client.status == 200
    assert client.got(b"x-sidecar-panic") == b"%d of %d endpoints are out" % (endpoints, endpoints)
    world.at_rest()


def test_without_ejection_health_checks_have_the_last_word() -> None:
    world = World(2)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"no_endpoint")
    assert told(world, "panic") == []


def test_with_a_share_of_all_there_is_no_panic() -> None:
    world = world_of(2, max_ejected=1.0)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    assert world.request().got(b"x-sidecar-error") == b"no_endpoint"


def test_who_was_ejected_is_used_again() -> None:
    world = world_of(4)
    serves(world, fails=(0,))
    world.after(10.1)
    assert usable(world) == ["e1", "e2", "e3"]
    world.cluster.set_health(world.endpoints[1], False)
    world.cluster.set_health(world.endpoints[2], False)
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    assert world.cluster.panic
    world.after(30.0)
    assert usable(world) == ["e0", "e3"]
    assert not world.cluster.panic


def test_open_breakers_are_heeded_in_a_panic_too() -> None:
    world = world_of(3, breaker={})
    world.open_breaker(0)
    world.cluster.set_health(world.endpoints[1], False)
    assert usable(world) == ["e1", "e2"]
    assert world.cluster.panic


def test_in_a_panic_it_is_the_breakers_that_keep_everybody_out() -> None:
    # Given a panic of unhealthy endpoints
    world = world_of(2)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    assert world.cluster.panic
    # When they fail as well, the answer names their breakers, not the checks that are not heeded
    world.open_breaker(0)
    world.open_breaker(1)
    client = world.request()
    assert client.got(b"x-sidecar-error") == b"breaker_open"
    assert client.got(b"x-sidecar-panic") == b"2 of 2 endpoints are out"


def test_who_is_called_back_and_fails_does_not_end_the_panic() -> None:
    # Given three of four that are gone, as their checks say
    world = world_of(4, breaker={})
    for index in range(3):
        world.cluster.set_health(world.endpoints[index], False)
    # When they are used all the same, and their breakers open and probe
    for index in range(3):
        world.open_breaker(index)
    # Then it is the same panic, and no other one for each probe
    assert usable(world) == ["e3"]
    world.after(1.1)
    assert usable(world) == ["e0", "e1", "e2", "e3"]
    assert told(world, "panic") == [{"cluster": "users", "panic": True, "out": 3, "of": 4}]
    assert (world.cluster.panic, world.cluster.panics) == (True, 1)


def test_all_breakers_open_is_no_panic_but_an_answer() -> None:
    world = world_of(3, breaker={})
    for index in range(3):
        world.open_breaker(index)
    client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"breaker_open")
    assert client.got(b"x-sidecar-panic") is None
    assert told(world, "panic") == []


def test_open_breakers_alone_are_no_panic() -> None:
    # Given two of three whose breakers are open: nobody would be brought back
    world = world_of(3, breaker={})
    world.open_breaker(0)
    world.open_breaker(1)
    assert usable(world) == ["e2"]
    assert not world.cluster.panic


def test_drained_endpoints_are_not_used_in_a_panic() -> None:
    world = world_of(3)
    world.cluster.drain(world.endpoints[0], 60.0)
    world.cluster.set_health(world.endpoints[1], False)
    world.cluster.set_health(world.endpoints[2], False)
    assert usable(world) == ["e1", "e2"]
    assert world.cluster.out_of == (2, 2)


def test_another_priority_comes_before_a_panic() -> None:
    world = World(4, priorities=(0, 0, 0, 1), breaker=NO_BREAKER)
    world.cluster.eject_outliers(OutlierPolicy())
    for index in (0, 1, 2):
        world.cluster.set_health(world.endpoints[index], False)
    assert usable(world) == ["e3"]
    assert not world.cluster.panic
    world.cluster.set_health(world.endpoints[3], False)
    assert usable(world) == ["e0", "e1", "e2"]
    assert world.cluster.panic


def test_replies_of_our_own_say_it_too() -> None:
    world = world_of(1)
    world.cluster.set_health(world.endpoints[0], False)
    client = world.request("POST")
    world.last.fails(Failure.RESET)
    assert (client.status, client.got(b"x-sidecar-panic")) == (502, b"1 of 1 endpoints are out")
    world.at_rest()


def test_grpc_answers_say_it_and_errors_of_the_service_pass_as_they_came() -> None:
    world = world_of(1)
    world.cluster.set_health(world.endpoints[0], False)
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(message(b"a"))
    assert (client.grpc_status, client.got(b"x-sidecar-panic")) == (b"0", b"1 of 1 endpoints are out")

    # With a head before its trailers, a client's own policy could not try it again
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(code=14)
    assert (client.grpc_status, client.got(b"x-sidecar-panic"), client.trailers) == (b"14", None, None)
    world.at_rest()


def test_a_panic_ends_with_the_policy() -> None:
    world = world_of(2)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    assert world.cluster.panic
    world.cluster.eject_outliers(None)
    assert not world.cluster.panic
    assert usable(world) == []
    assert world.cluster.requests.try_acquire(), "nobody is asked any more"


def test_who_is_back_in_a_panic_is_not_kept_away_by_its_latency() -> None:
    world = world_of(2)
    for endpoint in world.endpoints:
        endpoint.cost_at = 5.0
        world.cluster.set_health(endpoint, False)
    assert [endpoint.cost_at for endpoint in world.endpoints] == [0.0, 5.0], "the second was in use all the time"
    assert [endpoint.ready_since for endpoint in world.endpoints] == [0.0, 0.0], "all at once"
