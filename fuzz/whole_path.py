"""Bytes of a client against a whole sidecar without sockets: connection, path, pools and
an endpoint that answers everything with 200. What the server targets share.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from benchmarks.world import Transport, World
from fuzz.mutate import split
from sidecar.proxy.exchange import Begin, beginner
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h1_client import H1ClientConnection

_CONFIG = "clusters: {users: {listen: '127.0.0.1:0', protocol: http1, endpoints: ['127.0.0.1:9000']}}"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Accept = Callable[[Runtime, Begin, Callable[[Any], None]], Any]


def stand(accept: Accept, data: bytes, opening: bytes = b"") -> None:
    """Feed a connection, then take its transport away: AssertionError when an exception
    got out, a request is still under way, or the connection did not say its end."""
    world = World(_CONFIG)
    errors: list[Any] = []
    closed: list[Any] = []
    world.runtime.on_crash = errors.append
    world.loop.set_exception_handler(lambda loop, report: errors.append(report.get("exception") or report))
    try:
        connection = accept(world.runtime, beginner(world.runtime, "users"), closed.append)
        transport = world.accept(connection)
        upstream = _Upstream(world)
        for piece in split(Random(len(data)), opening + data):
            if transport.closing:
                break
            connection.data_received(piece)
            upstream.answer()
        connection.connection_lost(None)
        upstream.end()
        assert not errors, errors[0]
        assert closed == [connection], "the end was not told once"
        assert world.runtime.in_flight == 0, f"{world.runtime.in_flight} requests are still under way"
        cluster = world.runtime.snapshot.clusters["users"]
        assert cluster.requests.in_use == 0, "a request's place was not given back"
        assert cluster.endpoints[0].in_flight == 0, "a try was not settled"
    finally:
        world.close()


class _Upstream:
    """Whoever is dialled: each request head that arrives is answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: list[tuple[H1ClientConnection, Transport]] = []

    def answer(self) -> None:
        """Take the dials, answer what was asked."""
        pools = self._world.dials.pools
        while pools:
            connection = H1ClientConnection(self._world.runtime, pools[0])
            self._open.append((connection, self._world.connect(connection)))
        for connection, transport in list(self._open):
            asked = transport.take()
            if transport.closing:
                self._open.remove((connection, transport))
                connection.connection_lost(None)
            elif b"\r\n\r\n" in asked:
                connection.data_received(_ANSWER)

    def end(self) -> None:
        """The connections end."""
        for connection, _ in self._open:
            connection.connection_lost(None)
        self._open.clear()
