"""The connections to one endpoint, in one HTTP version.

A pool decides and never blocks: `acquire` gives a stream now, a failure now, or
nothing, and then the waiter is told later. Dialling is the connector's.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from sidecar.model.outcome import Failure
from sidecar.policy.limit import Limit
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.idle import IdleTimeout

# Dials to one endpoint at once over HTTP/1.1. Many servers keep no more than 128 new
# connections waiting: the kernel drops the SYN of the next one, whose second comes
# a second later. Dials beyond this many wait for those before them instead.
_DIALS_AT_ONCE = 100


class Waiter(Protocol):
    """Who wants a stream; it is also the stream's receiver."""

    def on_stream(self, stream: Any) -> None:
        """A stream that could not be given at once."""

    def on_no_stream(self, failure: Failure) -> None:
        """There will be none."""


class Connector(Protocol):
    """Makes connections. Ends with `pool.on_connected(connection)` or
    `pool.on_connect_failed(failure)`, inside a turn, never before `dial` returns."""

    def dial(self, pool: Any, timeout: float) -> None:
        """Connect to `pool.endpoint` in `pool.protocol` within `timeout` seconds."""

    def readable(self, connection: Any) -> bool:
        """Whether an idle connection has something to read: the peer's close."""


class Shares(Protocol):
    """What the pools of one cluster share."""

    connections: Limit
    pending: Limit
    connect_timeout: float
    idle_timeout: float
    # Pools with waiters that the connection limit kept from dialling.
    # In the order in which they began to starve; dicts keep it, sets do not.
    starving: dict[Any, None]
    tls: Any
    destinations: Any

    def evict_idle(self, other_than: Any) -> bool:
        """Close an idle connection of another pool; False when there is none."""


class _Pool:
    """What both versions share: waiters, dials and the connection limit."""

    protocol = ""

    def __init__(self, endpoint: Endpoint, shares: Shares, connector: Connector, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.shares = shares
        self.connector = connector
        self.clock = clock
        self.waiters: deque[Waiter] = deque()
        self.dialling = 0
        self.connections: dict[Any, None] = {}  # the oldest first
        self.closed = False

    def _wait(self, waiter: Waiter) -> Failure | None:
        """Queue up; a failure when the queue is full."""
        if not self.shares.pending.try_acquire():
            return Failure.OVERLOADED
        self.waiters.append(waiter)
        return None

    def _dial(self) -> bool:
        """Start a connection if the cluster's limit has room for one."""
        connections = self.shares.connections
        if not connections.try_acquire() and not (self.shares.evict_idle(self) and connections.try_acquire()):
            self.shares.starving[self] = None
            return False
        self.dialling += 1
        self.connector.dial(self, self.shares.connect_timeout)
        return True

    def leave(self, waiter: Waiter) -> None:
        """A waiter has lost patience; its dial goes on for whoever comes next."""
        try:
            self.waiters.remove(waiter)
        except ValueError:
            return
        self.shares.pending.release()

    def _next_waiter(self) -> Waiter:
        self.shares.pending.release()
        return self.waiters.popleft()

    def on_connect_failed(self, failure: Failure) -> None:
        """A dial failed: it fails the waiter that it was made for, the oldest."""
        self.dialling -= 1
        self.shares.connections.release()
        if len(self.waiters) > self.dialling:
            self._next_waiter().on_no_stream(failure)
        self.feed_starving()

    def _gone(self, connection: Any) -> None:
        if connection in self.connections:
            del self.connections[connection]
            self.shares.connections.release()
        if self.waiters and not self.dialling:
            self._dial()
        self.feed_starving()

    def feed_starving(self) -> None:
        """The limit has room again: whoever could not dial may."""
        starving = self.shares.starving
        while starving:
            pool = next(iter(starving))
            if pool._wants_more():
                if not pool._dial():
                    return  # no room after all: it keeps its place
                del starving[pool]
                if pool._wants_more():
                    starving[pool] = None
                return
            del starving[pool]

    def _wants_more(self) -> bool:
        """Whether more dials than are under way have somebody waiting for them."""
        return len(self.waiters) > self.dialling

    def fail_waiters(self) -> None:
        """The endpoint is to get no more requests: its waiters try elsewhere."""
        while self.waiters:
            self._next_waiter().on_no_stream(Failure.UNSENT)


class H1Pool(_Pool):
    """HTTP/1.1: a stack of idle connections, the warmest first."""

    protocol = "http1"

    def __init__(self, endpoint: Endpoint, shares: Shares, connector: Connector, clock: Callable[[], float]) -> None:
        super().__init__(endpoint, shares, connector, clock)
        self.idle: list[Any] = []
        self.peer_idle = IdleTimeout()

    def acquire(self, waiter: Waiter, now: float, repeatable: bool) -> Any:
        """A stream, a Failure, or None: then the waiter is told.

        A request that is not `repeatable` gets a reused connection only after a
        look whether the peer has closed it: its close may be in our socket
        already, unread.
        """
        idle = self.idle
        while idle:
            connection = idle.pop()
            age = now - connection.idle_since
            if connection.transport is None:
                continue
            known = self.peer_idle.seen or connection.idle_hint
            if known and not self.peer_idle.allows(age, connection.idle_hint):
                # Its close may lie in our socket, unread.
                if not self.connector.readable(connection):
                    self.peer_idle.outlived(age)
                connection.close()
            elif not repeatable and self.connector.readable(connection):
                self.peer_idle.closed_at(age, now)
                connection.close()
            else:
                return connection.open(waiter)
        failure = self._wait(waiter)
        if failure is None:
            self._dial_for_waiters()
        return failure

    def _dial_for_waiters(self) -> None:
        if self.dialling < _DIALS_AT_ONCE and len(self.waiters) > self.dialling:
            self._dial()

    def on_connected(self, connection: Any) -> None:
        """A dial has succeeded."""
        self.dialling -= 1
        self.connections[connection] = None
        connection.idle_since = self.clock()
        self.on_idle(connection)
        self._dial_for_waiters()

    def on_connect_failed(self, failure: Failure) -> None:
        """A dial failed; those who wait for theirs go on."""
        super().on_connect_failed(failure)
        self._dial_for_waiters()

    def on_idle(self, connection: Any) -> None:
        """A connection is free: to the oldest waiter, or onto the stack."""
        if self.waiters:
            waiter = self._next_waiter()
            waiter.on_stream(connection.open(waiter))
        elif self.closed:
            connection.close()
        else:
            self.idle.append(connection)
            if self.shares.starving:
                self.feed_starving()

    def on_closed(self, connection: Any, idle: bool) -> None:
        """A connection is gone; a close by an idle peer teaches its idle timeout."""
        if idle and connection.used:
            now = self.clock()
            self.peer_idle.closed_at(now - connection.idle_since, now)
        if connection in self.idle:
            self.idle.remove(connection)
        self._gone(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        limit = self.shares.idle_timeout
        for connection in [each for each in self.idle if now - each.idle_since > limit]:
            self.idle.remove(connection)
            connection.close()

    def evict(self) -> bool:
        """Close the idle connection that was used longest ago."""
        if not self.idle:
            return False
        connection = self.idle.pop(0)
        connection.close()
        self.connections.pop(connection, None)
        self.shares.connections.release()
        return True

    def close(self) -> None:
        """The endpoint was removed: idle connections go now, busy ones when they end.
        Who waits already is still served: a reload fails nobody."""
        self.closed = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()


class H2Pool(_Pool):
    """HTTP/2: few connections with many streams; another one when all are full."""

    protocol = "http2"

    def acquire(self, waiter: Waiter, now: float, repeatable: bool) -> Any:
        """A stream, a Failure, or None: then the waiter is told."""
        if not self.waiters:
            for connection in self.connections:
                stream = connection.open(waiter)  # None where there is none free
                if stream is not None:
                    return stream
        failure = self._wait(waiter)
        if failure is None and not self.dialling:
            self._dial()
        return failure

    def on_connected(self, connection: Any) -> None:
        """A dial has succeeded: it serves as many waiters as it has streams."""
        self.dialling -= 1
        self.connections[connection] = None
        connection.idle_since = self.clock()
        waiting = len(self.waiters)
        self.on_available(connection)
        if waiting and len(self.waiters) == waiting:
            # A server that allows no stream: another connection would be no better.
            self.endpoint.trouble = "it allows no streams"
            self._fail_all(Failure.CONNECT_FAILED)
        elif self.waiters and not self.dialling:
            self._dial()

    def on_connect_failed(self, failure: Failure) -> None:
        """One dial was made for all that wait: all of them hear of its failure."""
        self.dialling -= 1
        self.shares.connections.release()
        self._fail_all(failure)
        self.feed_starving()

    def _fail_all(self, failure: Failure) -> None:
        for _ in range(len(self.waiters)):
            if self.waiters:
                self._next_waiter().on_no_stream(failure)

    def _wants_more(self) -> bool:
        # One dial at a time: it may serve everybody.
        return not self.dialling and bool(self.waiters)

    def on_available(self, connection: Any) -> None:
        """Streams are free."""
        while self.waiters and connection.free_streams > 0:
            waiter = self._next_waiter()
            stream = connection.open(waiter)
            if stream is None:
                waiter.on_no_stream(Failure.UNSENT)
            else:
                waiter.on_stream(stream)
        if self.closed:
            connection.drain()

    def on_draining(self, connection: Any) -> None:
        """GOAWAY: its streams finish, new ones go elsewhere."""
        if self.waiters and not self.dialling:
            self._dial()

    def on_closed(self, connection: Any) -> None:
        """A connection is gone."""
        self._gone(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        limit = self.shares.idle_timeout
        for connection in list(self.connections):
            if not connection.open_streams and now - connection.idle_since > limit:
                connection.drain()

    def evict(self) -> bool:
        """Close a connection without streams."""
        for connection in self.connections:
            if not connection.open_streams:
                connection.drain()
                self.connections.pop(connection, None)
                self.shares.connections.release()
                return True
        return False

    def close(self) -> None:
        """The endpoint was removed: connections go when their streams have ended.
        Who waits already is still served: a reload fails nobody."""
        self.closed = True
        for connection in list(self.connections):
            connection.drain()


class TunnelPool(_Pool):
    """Raw connections, each for one tunnel: nothing is ever idle."""

    protocol = "tcp"

    def acquire(self, waiter: Waiter, now: float, repeatable: bool) -> Any:
        """A Failure, or None: then the waiter is told."""
        failure = self._wait(waiter)
        if failure is None:
            self._dial()
        return failure

    def on_connected(self, connection: Any) -> None:
        """A dial has succeeded."""
        self.dialling -= 1
        self.connections[connection] = None
        if self.waiters:
            waiter = self._next_waiter()
            waiter.on_stream(connection.open(waiter))
        else:
            connection.close()

    def on_closed(self, connection: Any) -> None:
        """A connection is gone."""
        self._gone(connection)

    def sweep(self, now: float) -> None:
        """Nothing is idle."""

    def evict(self) -> bool:
        """Nothing is idle."""
        return False

    def close(self) -> None:
        """The endpoint was removed: tunnels end when their peers end them."""
        self.closed = True


Pool = H1Pool | H2Pool | TunnelPool

_KINDS: dict[str, type[H1Pool] | type[H2Pool] | type[TunnelPool]] = {
    "http1": H1Pool,
    "http2": H2Pool,
    "tcp": TunnelPool,
}


def make_pool(
    protocol: str, endpoint: Endpoint, shares: Shares, connector: Connector, clock: Callable[[], float]
) -> Pool:
    """A pool for "http1", "http2" or "tcp"."""
    return _KINDS[protocol](endpoint, shares, connector, clock)
