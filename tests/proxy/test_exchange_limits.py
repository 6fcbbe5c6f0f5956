"""Limits, drains and priorities: what is answered at once, and who is asked instead."""

import pytest

from sidecar.model.outcome import Failure, Verdict
from tests.proxy.world import World, message, policy


def test_beyond_the_requests_the_answer_comes_at_once() -> None:
    world = World(limits={"requests": 2})
    clients = [world.request() for _ in range(3)]
    assert clients[2].status == 503
    assert clients[2].got(b"x-sidecar-error") == b"overloaded"
    assert world.cluster.local_replies == {"overloaded": 1}
    world.streams[0].answer()
    again = world.request()
    world.streams[1].answer()
    world.last.answer()
    assert again.status == 200
    world.at_rest()


def test_beyond_the_pending_the_answer_comes_at_once() -> None:
    world = World(1, limits={"pending": 2})
    world.connector.by_hand = True
    clients = [world.request("POST") for _ in range(3)]
    assert clients[2].got(b"x-sidecar-error") == b"overloaded"
    assert world.verdicts(0) == [Verdict.IGNORED], "a full queue of ours blames nobody"
    for _ in range(2):
        world.connector.connects()
        world.last.answer()
    assert [client.status for client in clients] == [200, 200, 503]
    world.at_rest()


def test_a_dial_that_hangs_is_given_up_after_the_connect_timeout() -> None:
    world = World(1, retry=policy(attempts=1), connect_timeout=0.7)
    world.connector.by_hand = True
    client = world.request()
    world.after(0.69)
    assert not client.ended
    world.after(0.02)
    assert (client.status, client.got(b"x-sidecar-error")) == (502, b"connect_failed")
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.connector.fails(Failure.CONNECT_TIMEOUT)
    world.at_rest()


def test_the_deadline_bounds_the_wait_for_a_connection() -> None:
    world = World(1, request_timeout=0.5, connect_timeout=5.0)
    world.connector.by_hand = True
    client = world.request()
    world.after(0.51)
    assert (client.status, client.got(b"x-sidecar-error")) == (504, b"timeout")
    world.connector.connects()
    assert not world.streams, "nobody wants that connection any more"
    world.at_rest()


def test_waiting_for_our_own_connection_limit_blames_nobody() -> None:
    world = World(1, limits={"connections": 1}, connect_timeout=0.7)
    busy = world.request()
    client = world.request()
    world.after(0.71)
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"overloaded")
    assert world.verdicts(0) == [Verdict.IGNORED]
    world.last.answer()
    assert busy.status == 200
    world.at_rest()


def test_who_waits_gets_the_connection_that_falls_free() -> None:
    world = World(1, limits={"connections": 1})
    clients = [world.request() for _ in range(3)]
    for _ in range(3):
        world.last.answer()
    assert [client.status for client in clients] == [200] * 3
    assert len(world.connections) == 1
    world.at_rest()


def test_an_idle_connection_makes_room_for_another_endpoint() -> None:
    world = World(2, limits={"connections": 1})
    world.request()
    world.last.answer()
    world.cluster.drain(world.endpoints[0], 60.0)
    client = world.request()
    assert world.asked == ["e0", "e1"]
    world.last.answer()
    assert client.status == 200
    assert len(world.connections) == 1
    world.cluster.drain(world.endpoints[0], 0.0)
    world.at_rest()


def test_a_starving_endpoint_is_fed_when_another_has_done() -> None:
    world = World(2, limits={"connections": 1})
    one = world.request()
    world.cluster.drain(world.endpoints[0], 60.0)
    other = world.request()
    assert world.asked == ["e0"]
    world.last.answer()
    assert world.asked == ["e0", "e1"]
    world.last.answer()
    assert (one.status, other.status) == (200, 200)
    world.cluster.drain(world.endpoints[0], 0.0)
    world.at_rest()


def test_a_drained_endpoint_gets_no_new_requests_until_its_time_is_over() -> None:
    world = World(2)
    busy = world.request()
    world.cluster.drain(world.endpoints[0], 30.0)
    world.request()
    world.streams[0].answer()
    assert busy.status == 200, "what is under way goes on"
    world.streams[1].answer()
    world.after(31)
    world.request()
    world.last.answer()
    assert world.asked == ["e0", "e1", "e0"]
    assert [fields["ttl"] for kind, fields in world.events if kind == "drain"] == [30.0, 0.0]
    world.at_rest()


def test_without_a_usable_endpoint_the_answer_comes_at_once() -> None:
    world = World(2)
    for endpoint in world.endpoints:
        world.cluster.set_health(endpoint, False, "down")
    client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"no_endpoint")
    call = world.call("/pkg.S/Get", message(b"q"))
    assert call.grpc_status == b"14"
    world.at_rest()


def test_the_next_priority_is_for_when_the_first_has_nobody() -> None:
    world = World(3, priorities=(0, 0, 1))
    world.request()
    world.last.answer()
    world.cluster.set_health(world.endpoints[0], False)
    world.request()
    world.last.answer()
    world.open_breaker(1)
    world.request()
    world.last.answer()
    world.cluster.set_health(world.endpoints[0], True)
    world.request()
    world.last.answer()
    assert world.asked == ["e0", "e1", "e2", "e0"]
    world.at_rest()


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_the_clusters_protocol_wins(protocol: str) -> None:
    world = World(1, protocol=protocol)
    world.request(protocol="http1")
    world.last.answer()
    world.request(protocol="http2")
    world.last.answer()
    assert {connection.pool.protocol for connection in world.connections} == {protocol}
    world.at_rest()


def test_an_upgrade_goes_by_http1_and_becomes_a_pipe() -> None:
    world = World(1, protocol="http2", request_timeout=2.0, idle_timeout=60.0)
    client = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)
    assert client.status == 101
    assert world.connections[0].pool.protocol == "http1"
    world.after(30)
    client.sends(b"ping")
    world.last.data(b"pong")
    assert (world.last.body, client.body) == (b"ping", b"pong")
    world.last.data(b"bye", end=True)
    assert world.runtime.in_flight == 1, "the client's half is still open"
    client.sends(b"", end=True)
    world.at_rest()


def test_a_pipe_whose_server_has_ended_and_takes_no_more() -> None:
    world = World(1)
    client = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)
    world.last.data(b"bye", end=True)
    client.sends(b"late")
    world.last.fails(Failure.RESET)
    assert client.body == b"bye"
    assert client.was_reset is Failure.RESET
    assert world.verdicts(0) == [Verdict.IGNORED], "it had said all"
    world.at_rest()


def test_a_pipe_whose_server_goes_in_the_middle() -> None:
    world = World(1)
    client = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)
    world.last.data(b"by")
    world.last.fails(Failure.RESET)
    assert client.was_reset is Failure.RESET
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


def test_a_pipe_whose_client_ends_first() -> None:
    world = World(1)
    client = world.request(upgrade=b"websocket", end=False)
    world.last.head(101)
    client.sends(b"x", end=True)
    assert world.runtime.in_flight == 1
    world.last.data(b"y", end=True)
    assert client.body == b"y"
    world.at_rest()


def test_connect_is_for_forward_listeners() -> None:
    world = World(1)
    client = world.request("CONNECT", "", authority=b"users.internal:443", end=False)
    assert (client.status, client.got(b"x-sidecar-error")) == (400, b"bad_request")
    assert b"CONNECT is for listeners with mode: forward" in client.body
    assert not world.connector.dials
    world.at_rest()
