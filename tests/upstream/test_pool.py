"""Pools: who gets a stream when, and what becomes of connections."""

from typing import Any

import pytest

from sidecar.model.outcome import Failure
from sidecar.upstream.pool import make_pool
from tests.proxy.fakes import FakeConnection, Upstream
from tests.proxy.world import World


class Asker:
    """A waiter that remembers what it was told."""

    head = None

    def __init__(self) -> None:
        self.stream: Any = None
        self.failure: Failure | None = None

    def on_stream(self, stream: Any) -> None:
        assert self.stream is None
        assert self.failure is None
        self.stream = stream

    def on_no_stream(self, failure: Failure) -> None:
        assert self.stream is None
        assert self.failure is None
        self.failure = failure


class Pooled:
    """Pools of one cluster, one per endpoint, with dials answered by hand."""

    def __init__(self, protocol: str, endpoints: int = 1, **world: Any) -> None:
        self.world = World(endpoints, **world)
        self.world.connector.by_hand = True
        self.connector = self.world.connector
        self.cluster = self.world.cluster
        self.pools = [self.cluster.pool(endpoint, protocol) for endpoint in self.world.endpoints]
        self.pool = self.pools[0]

    def ask(self, pool: Any = None, repeatable: bool = True) -> Asker:
        asker = Asker()
        with self.world.turn_of():
            given = (pool or self.pool).acquire(asker, self.world.clock.now, repeatable)
        if isinstance(given, Failure):
            asker.failure = given
        elif given is not None:
            asker.stream = given
        return asker

    def done(self, stream: Upstream) -> None:
        """A whole exchange on a stream."""
        with self.world.turn_of():
            stream.request_ended = stream.answered = True
            stream.connection.stream_over(stream)

    def connected(self) -> FakeConnection:
        return self.connector.connects()


BOTH = pytest.mark.parametrize("protocol", ["http1", "http2"])


@BOTH
def test_the_first_stream_waits_for_a_dial_the_next_does_not(protocol: str) -> None:
    given = Pooled(protocol)
    first = given.ask()
    assert (first.stream, first.failure, given.cluster.pending.in_use) == (None, None, 1)
    given.connected()
    assert first.stream is not None
    given.done(first.stream)
    assert given.ask().stream.connection is first.stream.connection
    assert given.cluster.pending.in_use == 0
    assert given.cluster.connections.in_use == 1


def test_http1_dials_one_connection_for_each_who_waits() -> None:
    given = Pooled("http1")
    askers = [given.ask() for _ in range(3)]
    assert len(given.connector.dials) == 3
    for _ in range(3):
        given.connected()
    assert len({id(asker.stream.connection) for asker in askers}) == 3


def test_http2_dials_one_connection_for_all_who_wait() -> None:
    given = Pooled("http2")
    askers = [given.ask() for _ in range(3)]
    assert len(given.connector.dials) == 1
    given.connected()
    assert len({id(asker.stream.connection) for asker in askers}) == 1
    assert not given.connector.dials


def test_http2_dials_again_when_all_are_full() -> None:
    given = Pooled("http2", streams_per_connection=2)
    askers = [given.ask() for _ in range(5)]
    given.connected()
    given.connected()
    given.connected()
    assert all(asker.stream is not None for asker in askers)
    assert not given.connector.dials
    assert len(given.pool.connections) == 3


def test_http2_serves_who_waits_when_a_stream_ends() -> None:
    given = Pooled("http2", streams_per_connection=1, limits={"connections": 1})
    one = given.ask()
    given.connected()
    other = given.ask()
    assert other.stream is None
    given.done(one.stream)
    assert other.stream is not None


def test_the_warmest_http1_connection_goes_first() -> None:
    given = Pooled("http1")
    one, other = given.ask(), given.ask()
    given.connected()
    given.connected()
    given.done(one.stream)
    given.done(other.stream)
    assert given.ask().stream.connection is other.stream.connection


def test_those_who_wait_are_served_in_order() -> None:
    given = Pooled("http1")
    askers = [given.ask() for _ in range(3)]
    given.connected()
    assert [asker.stream is not None for asker in askers] == [True, False, False]
    given.done(askers[0].stream)
    assert [asker.stream is not None for asker in askers] == [True, True, False]


def test_an_http1_dial_that_fails_fails_one() -> None:
    given = Pooled("http1")
    askers = [given.ask() for _ in range(2)]
    given.connector.fails()
    assert [asker.failure for asker in askers] == [Failure.CONNECT_FAILED, None]
    given.connected()
    assert askers[1].stream is not None
    assert given.cluster.connections.in_use == 1


def test_an_http2_dial_that_fails_fails_all() -> None:
    given = Pooled("http2")
    askers = [given.ask() for _ in range(3)]
    given.connector.fails(Failure.CONNECT_TIMEOUT)
    assert [asker.failure for asker in askers] == [Failure.CONNECT_TIMEOUT] * 3
    assert given.cluster.pending.in_use == 0
    assert given.cluster.connections.in_use == 0


@BOTH
def test_who_leaves_is_not_served_and_the_dial_is_for_the_next(protocol: str) -> None:
    given = Pooled(protocol)
    gone = given.ask()
    given.pool.leave(gone)
    given.pool.leave(gone)
    assert given.cluster.pending.in_use == 0
    stays = given.ask()
    assert len(given.connector.dials) == 1
    given.connected()
    assert gone.stream is None
    assert stays.stream is not None


@BOTH
def test_a_full_queue_says_so_at_once_and_dials_nothing(protocol: str) -> None:
    given = Pooled(protocol, limits={"pending": 1})
    given.ask()
    dials = len(given.connector.dials)
    assert given.ask().failure is Failure.OVERLOADED
    assert len(given.connector.dials) == dials
    assert given.cluster.pending.in_use == 1


# ----------------------------------------------------------------------- the limit


@BOTH
def test_an_idle_connection_elsewhere_is_closed_to_make_room(protocol: str) -> None:
    given = Pooled(protocol, 2, limits={"connections": 1})
    one = given.ask()
    given.connected()
    given.done(one.stream)
    other = given.ask(given.pools[1])
    given.connected()
    assert other.stream is not None
    assert one.stream.connection.transport is None
    assert given.cluster.connections.in_use == 1


def test_who_starves_is_fed_in_order() -> None:
    given = Pooled("http1", 4, limits={"connections": 1})
    busy = given.ask()
    given.connected()
    hungry = [given.ask(pool) for pool in given.pools[1:]]
    assert not given.connector.dials
    stream = busy.stream
    for asker in hungry:
        given.done(stream)
        given.connected()
        stream = asker.stream
        assert stream is not None
    assert given.cluster.connections.in_use == 1


@BOTH
def test_who_starves_is_fed_when_a_reload_makes_room(protocol: str) -> None:
    # Given one connection, and two pools that wait for one
    given = Pooled(protocol, 3, limits={"connections": 1})
    given.ask()
    given.connected()
    hungry = [given.ask(pool) for pool in given.pools[1:]]

    # When there may be as many as they want
    given.cluster.bound(5, 5)

    # Then nobody has to end first
    for asker in hungry:
        given.connected()
        assert asker.stream is not None
    assert given.cluster.connections.in_use == 3
    assert not given.cluster.starving


@BOTH
@pytest.mark.parametrize("end", ["lost", "dial_failed"])
def test_room_from_an_end_goes_to_who_starves(protocol: str, end: str) -> None:
    given = Pooled(protocol, 2, limits={"connections": 1})
    first = given.ask()
    if end == "lost":
        given.connected()
    hungry = given.ask(given.pools[1])
    if end == "lost":
        with given.world.turn_of():
            first.stream.connection.lose()
    else:
        given.connector.fails()
        assert first.failure is Failure.CONNECT_FAILED
    given.connected()
    assert hungry.stream is not None


def test_a_pool_with_many_who_starve_gets_every_place_that_falls_free() -> None:
    given = Pooled("http1", 2, limits={"connections": 2})
    busy = [given.ask(), given.ask()]
    given.connected()
    given.connected()
    hungry = [given.ask(given.pools[1]) for _ in range(2)]
    for asker in busy:
        with given.world.turn_of():
            asker.stream.connection.lose()
    given.connected()
    given.connected()
    assert all(asker.stream is not None for asker in hungry)


def test_who_starved_and_left_takes_no_place() -> None:
    given = Pooled("http1", 2, limits={"connections": 1})
    busy = given.ask()
    given.connected()
    hungry = given.ask(given.pools[1])
    given.pools[1].leave(hungry)
    given.done(busy.stream)
    assert not given.connector.dials
    assert given.ask().stream is not None, "the connection is still there"


# ---------------------------------------------------------------------- idle and old


def test_a_closed_idle_connection_is_not_given_out() -> None:
    given = Pooled("http1")
    one = given.ask()
    given.connected()
    given.done(one.stream)
    with given.world.turn_of():
        one.stream.connection.lose(idle=True)
    assert given.ask().stream is None
    assert len(given.connector.dials) == 1


def test_what_cannot_be_repeated_gets_no_connection_with_something_to_read() -> None:
    given = Pooled("http1")
    one = given.ask()
    given.connected()
    given.done(one.stream)
    one.stream.connection.readable = True
    assert given.ask(repeatable=False).stream is None
    assert one.stream.connection.transport is None


def test_an_idle_timeout_is_learnt_and_kept_clear_of() -> None:
    given = Pooled("http1")
    one = given.ask()
    given.connected()
    given.done(one.stream)
    given.world.after(2.0)
    with given.world.turn_of():
        one.stream.connection.lose(idle=True)
    other = given.ask()
    given.connected()
    given.done(other.stream)
    given.world.after(1.5)
    again = given.ask()
    assert again.stream is not None, "well before the limit"
    given.done(again.stream)
    given.world.after(1.95)
    assert given.ask().stream is None, "about to reach it"


def test_a_server_may_say_how_long_it_waits() -> None:
    given = Pooled("http1")
    one = given.ask()
    given.connected()
    one.stream.connection.idle_hint = 5
    given.done(one.stream)
    given.world.after(4.8)
    assert given.ask().stream is None


@BOTH
def test_the_sweep_closes_what_was_idle_for_too_long(protocol: str) -> None:
    given = Pooled(protocol)
    one = given.ask()
    given.connected()
    given.done(one.stream)
    given.cluster.idle_timeout = 20.0
    given.world.after(19.0)
    assert len(given.pool.connections) == 1
    given.world.after(7.0)
    assert not given.pool.connections
    assert given.cluster.connections.in_use == 0


@BOTH
def test_the_sweep_spares_what_is_busy(protocol: str) -> None:
    given = Pooled(protocol)
    given.ask()
    given.connected()
    given.cluster.idle_timeout = 20.0
    given.world.after(60.0)
    assert len(given.pool.connections) == 1


# -------------------------------------------------------------------------- closing


@BOTH
def test_a_removed_endpoints_connections_end_with_what_they_carry(protocol: str) -> None:
    given = Pooled(protocol)
    busy, free = given.ask(), given.ask()
    while given.connector.dials:
        given.connected()
    if protocol == "http1":
        given.done(free.stream)
    with given.world.turn_of():
        given.pool.close()
    assert busy.stream.connection.transport is not None
    given.done(busy.stream)
    if protocol == "http2":
        given.done(free.stream)
    assert not given.pool.connections
    assert given.cluster.connections.in_use == 0


@BOTH
def test_who_waits_at_a_removed_endpoint_is_still_served(protocol: str) -> None:
    given = Pooled(protocol)
    asker = given.ask()
    given.pool.close()
    given.connected()
    assert asker.stream is not None
    given.done(asker.stream)
    assert not given.pool.connections


def test_goaway_with_waiters_dials_anew() -> None:
    given = Pooled("http2", streams_per_connection=1, limits={"connections": 2})
    one = given.ask()
    given.connected()
    given.ask()
    given.connector.fails()
    waiting = given.ask()
    dials = len(given.connector.dials)
    with given.world.turn_of():
        one.stream.connection.drain()
    assert len(given.connector.dials) == dials == 1
    given.connected()
    assert waiting.stream is not None
    assert waiting.stream.connection is not one.stream.connection


def test_a_draining_connection_takes_no_new_stream() -> None:
    given = Pooled("http2")
    one = given.ask()
    given.connected()
    one.stream.connection.draining = True
    assert given.ask().stream is None
    assert len(given.connector.dials) == 1


def test_tunnels_are_never_shared() -> None:
    given = Pooled("tcp")
    askers = [given.ask(), given.ask()]
    given.pool.leave(askers[1])
    given.connected()
    given.connected()
    assert askers[0].stream is not None
    assert len(given.world.connections) == 1, "what nobody wants is closed"
    assert not given.pool.evict()
    given.pool.sweep(given.world.clock.now)
    given.done(askers[0].stream)
    assert given.cluster.connections.in_use == 0


def test_there_are_three_kinds() -> None:
    world = World(1)
    for protocol in ("http1", "http2", "tcp"):
        pool = make_pool(protocol, world.endpoints[0], world.cluster, world.connector, world.clock)
        assert pool.protocol == protocol
    with pytest.raises(KeyError):
        make_pool("http3", world.endpoints[0], world.cluster, world.connector, world.clock)
