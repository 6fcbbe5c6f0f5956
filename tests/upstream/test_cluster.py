"""Clusters: who is usable, who is picked, and what happens when that changes."""

import pytest

from sidecar.model.outcome import Failure
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from tests.proxy.world import InOrder, World


def usable(world: World) -> list[str]:
    assert isinstance(world.balancer, InOrder)
    return [endpoint.name.partition(":")[0] for endpoint in world.balancer.endpoints]


def test_a_set_is_taken_whole_and_those_who_are_gone_drain() -> None:
    world = World(2)
    world.request()
    world.last.answer()
    assert len(world.connections) == 1
    new = world.endpoint(7)
    with world.turn_of():
        world.cluster.replace_endpoints([world.endpoints[1], new])
    assert usable(world) == ["e1", "e7"]
    assert not world.connections, "idle connections of a removed endpoint close"


def test_a_request_at_a_removed_endpoint_is_finished_there() -> None:
    world = World(2)
    client = world.request("POST")
    with world.turn_of():
        world.cluster.replace_endpoints([world.endpoints[1]])
    world.last.answer()
    assert (client.status, world.asked) == (200, ["e0"])
    assert not world.connections
    world.at_rest()


def test_a_request_that_waits_for_a_removed_endpoint_is_not_failed() -> None:
    world = World(1)
    world.connector.by_hand = True
    client = world.request("POST")
    with world.turn_of():
        world.cluster.replace_endpoints([world.endpoint(1)])
    world.connector.connects()
    world.last.answer()
    assert client.status == 200
    world.at_rest()


@pytest.mark.parametrize("priorities", [(0, 1, 2), (3, 5, 9)])
def test_only_the_best_priority_with_anybody_left_is_used(priorities: tuple[int, ...]) -> None:
    world = World(3, priorities=priorities)
    assert usable(world) == ["e0"]
    world.cluster.set_health(world.endpoints[0], False)
    assert usable(world) == ["e1"]
    world.open_breaker(1)
    assert usable(world) == ["e2"]
    world.cluster.drain(world.endpoints[2], 5.0)
    assert usable(world) == []
    world.cluster.set_health(world.endpoints[0], True)
    assert usable(world) == ["e0"]


def test_who_comes_back_is_marked_for_slow_start() -> None:
    world = World(2)
    first, second = world.endpoints
    assert (first.ready_since, second.ready_since) == (0.0, 0.0)
    world.cluster.set_health(first, False)
    world.after(10)
    world.cluster.set_health(first, True)
    assert first.ready_since == world.clock.now
    assert second.ready_since == 0.0


def test_who_comes_back_to_nobody_needs_no_slow_start() -> None:
    world = World(1)
    world.cluster.set_health(world.endpoints[0], False)
    world.cluster.set_health(world.endpoints[0], True)
    assert world.endpoints[0].ready_since == 0.0


def test_an_endpoint_that_is_new_starts_slowly() -> None:
    world = World(1)
    new = world.endpoint(1)
    world.after(10)
    world.cluster.replace_endpoints([world.endpoints[0], new])
    assert new.ready_since == world.clock.now


def test_a_breaker_probes_when_its_time_is_over() -> None:
    world = World(1)
    world.open_breaker(0)
    breaker = world.endpoints[0].breaker
    assert breaker.state == OPEN
    world.after(breaker.open_until - world.clock.now + 0.001)
    assert breaker.state == HALF_OPEN
    assert usable(world) == ["e0"]
    world.request()
    world.last.answer()
    assert breaker.state == CLOSED
    changes = [(each["from"], each["to"]) for kind, each in world.events if kind == "breaker"]
    assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


def test_changes_are_told_once() -> None:
    world = World(1)
    world.cluster.set_health(world.endpoints[0], False, "no answer")
    world.cluster.set_health(world.endpoints[0], False, "no answer")
    assert world.events == [
        ("health", {"cluster": "users", "endpoint": "e0:80", "healthy": False, "reason": "no answer"})
    ]


# ----------------------------------------------------------------------------- pick


def test_another_is_one_that_was_not_tried_while_there_is_one() -> None:
    world = World(3, priorities=(0, 0, 1))
    one, two, spare = world.endpoints
    pick = world.cluster.pick_another
    assert pick((one,), (), 0, 0.0) is two
    assert pick((one, two), (), 0, 0.0) is spare, "of a lower priority, but not tried"
    assert pick((one, two, spare), (), 0, 0.0) is one
    assert pick((), (one,), 0, 0.0) is two
    assert pick((two,), (one,), 0, 0.0) is spare


def test_who_refused_is_never_picked() -> None:
    world = World(3, priorities=(0, 0, 1))
    one, two, spare = world.endpoints
    pick = world.cluster.pick_another
    assert pick((spare,), (one, two), 0, 0.0) is spare, "again: nobody else lets us in"
    assert pick((one, spare), (two, spare), 0, 0.0) is one
    assert pick((one,), (one, two, spare), 0, 0.0) is None


def test_why_there_is_nobody() -> None:
    world = World(2)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False)
    assert world.cluster.why_none() is Failure.NO_ENDPOINT
    world.cluster.set_health(world.endpoints[0], True)
    world.open_breaker(0)
    assert world.cluster.why_none() is Failure.BREAKER_OPEN
    world.cluster.drain(world.endpoints[0], 60.0)
    assert world.cluster.why_none() is Failure.NO_ENDPOINT


# --------------------------------------------------------------------------- drains


def test_a_drain_ends_with_its_time_or_by_hand() -> None:
    world = World(2)
    world.cluster.drain(world.endpoints[0], 10.0)
    assert usable(world) == ["e1"]
    world.after(10.1)
    assert usable(world) == ["e0", "e1"]
    world.cluster.drain(world.endpoints[0], 10.0)
    world.cluster.drain(world.endpoints[0], 0.0)
    assert usable(world) == ["e0", "e1"]


def test_a_longer_drain_outlasts_the_first_ones_timer() -> None:
    world = World(2)
    world.cluster.drain(world.endpoints[0], 10.0)
    world.after(5)
    world.cluster.drain(world.endpoints[0], 20.0)
    world.after(10)
    assert usable(world) == ["e1"]
    world.after(10.1)
    assert usable(world) == ["e0", "e1"]


# -------------------------------------------------------------------------- the rest


def test_a_removed_cluster_leaves_no_timer() -> None:
    world = World(1)
    world.request()
    world.last.answer()
    world.open_breaker(0)
    with world.turn_of():
        world.cluster.close()
    assert not world.timers.waiting
    assert not world.connections
    world.cluster.drain(world.endpoints[0], 10.0)
    assert not world.timers.waiting


def test_what_is_under_way_in_a_removed_cluster_is_finished() -> None:
    world = World(2)
    client = world.request()
    with world.turn_of():
        world.cluster.close()
    world.last.fails(Failure.REFUSED)
    world.last.answer()
    assert client.status == 200
    assert not world.connections
    world.at_rest()


def test_the_remembered_methods_are_bounded() -> None:
    world = World(1)
    for number in range(5000):
        world.cluster.learn_stream(b"/pkg.S/M%d" % number)
    assert len(world.cluster.streaming) == 1024


def test_reconnect_leaves_old_connections_to_what_they_carry() -> None:
    world = World(1)
    busy = world.request()
    old = world.connections[0]
    with world.turn_of():
        world.cluster.reconnect()
    world.request()
    assert world.connections[-1] is not old
    world.streams[0].answer()
    assert old.transport is None
    world.last.answer()
    assert busy.status == 200
    assert len(world.connections) == 1
    world.at_rest()


def test_another_balancer_gets_the_usable_endpoints() -> None:
    world = World(2)
    world.open_breaker(0)
    other = InOrder()
    world.cluster.balance("random", other)
    assert [endpoint.name for endpoint in other.endpoints] == ["e1:80"]
    assert world.cluster.policy == "random"


def test_the_choice_among_spares_is_random_and_seeded() -> None:
    picks = []
    for seed in (1, 1, 2, 3, 4, 5):
        world = World(4, priorities=(0, 1, 1, 1), seed=seed)
        picks.append([world.cluster.pick_another((world.endpoints[0],), (), 0, 0.0) for _ in range(8)])
        names = {endpoint.name for endpoint in picks[-1] if endpoint is not None}
        assert names <= {"e1:80", "e2:80", "e3:80"}
    named = [[endpoint.name for endpoint in each if endpoint is not None] for each in picks]
    assert named[0] == named[1]
    assert len({tuple(each) for each in named}) > 1
