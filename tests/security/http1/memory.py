"""Clients of a sidecar without sockets, thousands a second, and an endpoint that keeps what it is sent.

Connections to the endpoint are kept from one client to the next, as they are in life. The
endpoint reads with h11, so what it takes for a whole request is not the sidecar's word.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import h11

from benchmarks.world import Transport, World
from sidecar.proxy.exchange import beginner
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h1_server import H1ServerConnection

_CONFIG = """\
clusters:
  web: {listen: "127.0.0.1:0", protocol: http1, endpoints: ["127.0.0.1:9000"], retry: {attempts: 1}}
"""
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Sent(NamedTuple):
    """What one client made go over one connection to the endpoint: the bytes, how many
    requests the sidecar took them for, and whether the connection was ended."""

    data: bytes
    requests: int
    ended: bool


class Endpoint:
    """One connection as the endpoint has it."""

    def __init__(self, connection: H1ClientConnection, transport: Transport) -> None:
        self.connection = connection
        self.transport = transport
        self.parser = h11.Connection(h11.SERVER)
        self.broken = False
        self.data = b""  # of the present client
        self.used = 0  # before it
        self.head: h11.Request | None = None

    def answer(self) -> bool:
        """Read what was written, answer each whole request; whether there was anything."""
        asked = self.transport.take()
        if not asked:
            return False
        self.data += asked
        try:
            self.parser.receive_data(asked)
            while self._step():
                pass
        except h11.ProtocolError:
            self.broken = True  # the readers will say so as well
        return True

    def _step(self) -> bool:
        if self.broken:
            return False
        event = self.parser.next_event()
        if isinstance(event, h11.Request):
            self.head = event
        elif isinstance(event, h11.EndOfMessage):
            assert self.head is not None
            self.parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            self.parser.send(h11.EndOfMessage())
            self.parser.start_next_cycle()
            if not self.transport.closing:
                self.connection.data_received(_ANSWER[:-2] if self.head.method == b"HEAD" else _ANSWER)
        return event is not h11.NEED_DATA and event is not h11.PAUSED

    @property
    def between_requests(self) -> bool:
        """Whether a next request may come."""
        return not self.broken and self.parser.their_state is h11.IDLE and not self.parser.trailing_data[0]


class Memory:
    """One sidecar, one client after the other."""

    def __init__(self) -> None:
        self.world = World(_CONFIG, lambda: 1000.0)
        self._begin = beginner(self.world.runtime, "web")
        self._endpoints: list[Endpoint] = []
        self.answered = b""  # what the latest client was told

    def say(self, pieces: Sequence[bytes]) -> list[Sent]:
        """A client's life: it says this, and leaves when nothing more comes of it."""
        for endpoint in self._endpoints:
            endpoint.data, endpoint.used = b"", endpoint.connection.used
        closed: list[Any] = []
        connection = H1ServerConnection(self.world.runtime, self._begin, closed.append)
        transport = self.world.accept(connection)
        for piece in pieces:
            if transport.closing:
                break
            connection.data_received(piece)
            self._serve()
        self.answered = transport.take()
        connection.connection_lost(None)
        self._serve()
        sent = [
            Sent(each.data, each.connection.used - each.used, each.transport.closing)
            for each in self._endpoints
            if each.data
        ]
        for endpoint in self._endpoints:
            if endpoint.transport.closing:
                endpoint.connection.connection_lost(None)
        self._endpoints = [each for each in self._endpoints if not each.transport.closing]
        for endpoint in self._endpoints:
            assert endpoint.between_requests, f"kept in the middle of a message: {endpoint.data!r}"
        return sent

    def _serve(self) -> None:
        busy = True
        while busy:
            pools = self.world.dials.pools
            while pools:
                connection = H1ClientConnection(self.world.runtime, pools[0])
                self._endpoints.append(Endpoint(connection, self.world.connect(connection)))
            busy = sum(endpoint.answer() for endpoint in self._endpoints) > 0

    def close(self) -> None:
        """The end of it."""
        for endpoint in self._endpoints:
            endpoint.connection.connection_lost(None)
        self.world.close()
