"""Bytes of a client against a whole sidecar without sockets: connection, path, pools and
an endpoint that answers everything with 200. What the server targets share.

Each input is tried at a listener of either mode. Behind a CONNECT another protocol
takes the connection over, and is fed with what follows.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from benchmarks.world import Transport, World
from fuzz.baseline import check_baseline
from fuzz.mutate import split
from sidecar.model.address import Address
from sidecar.model.outcome import Failure
from sidecar.proxy.exchange import Begin
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.listener import Listener
from sidecar.wire.tunnel import TunnelClientConnection

_CONFIG = """\
clusters:
  users: {protocol: http1, endpoints: ["127.0.0.1:9000"]}
listeners:
  http:
    bind: 127.0.0.1:0
    routes: [{to: users}]
  forward:
    bind: 127.0.0.1:0
    mode: forward
    allow: ["*.example"]
    routes: [{match: {host: [a, users.internal]}, to: users}]
"""
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Accept = Callable[[Runtime, Begin, Callable[[Any], None]], Any]


def stand(accept: Accept, data: bytes, opening: bytes = b"") -> None:
    """Feed a connection of each mode, then take its transport away: AssertionError when
    an exception got out, a request is still under way, or an end was not told."""
    for mode in ("http", "forward"):
        world = World(_CONFIG)
        try:
            _stand(world, mode, accept, opening + data)
        finally:
            world.close()


def _stand(world: World, mode: str, accept: Accept, data: bytes) -> None:
    errors: list[Any] = []
    closed: list[Any] = []
    runtime = world.runtime
    runtime.on_crash = errors.append
    world.loop.set_exception_handler(lambda loop, report: errors.append(report.get("exception") or report))
    listener = Listener(runtime, mode, Address("127.0.0.1"), mode)
    connection = accept(runtime, listener._begin, closed.append)
    transport = world.accept(connection)
    upstream = _Upstream(world)
    for piece in split(Random(len(data)), data):
        if transport.closing:
            break
        transport.protocol.data_received(piece)
        upstream.answer()
    transport.protocol.connection_lost(None)
    upstream.end()
    assert not errors, errors[0]
    assert closed == [connection], "the end was not told once"
    check_baseline(world, listener)


class _Upstream:
    """Whoever is dialled: a request head is answered, what comes through a tunnel comes back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: list[tuple[Any, Transport]] = []

    def answer(self) -> None:
        """Take the dials, answer what was asked."""
        pools = self._world.dials.pools
        while pools:
            kind = TunnelClientConnection if pools[0].protocol == "tcp" else H1ClientConnection
            connection = kind(self._world.runtime, pools[0])
            self._open.append((connection, self._world.connect(connection)))
        for connection, transport in list(self._open):
            asked = transport.take()
            if transport.closing:
                self._open.remove((connection, transport))
                connection.connection_lost(None)
            elif isinstance(connection, TunnelClientConnection):
                if asked:
                    connection.data_received(asked)
            elif b"\r\n\r\n" in asked:
                connection.data_received(_ANSWER)

    def end(self) -> None:
        """The dials fail, the connections end."""
        turn = self._world.turn
        turn.begin()
        while self._world.dials.pools:
            self._world.dials.pools.pop(0).on_connect_failed(Failure.CONNECT_FAILED)
        turn.end()
        for connection, _ in self._open:
            connection.connection_lost(None)
        self._open.clear()
