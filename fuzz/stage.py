"""Bytes of a client and bytes of the endpoints against a whole sidecar without sockets:
sniffer, connection, path, pools and dials are the real ones, time is ours.

A play is bytes: acts, divided by MARK, of which the client says the first, an endpoint the
second, and so on in turn. An act of the endpoints is heard by the connection that has been
open for longest; without a word it closes it, or refuses the dial that waits. Between two
acts time passes, more each time, so that tries are made again and timeouts come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.world import Transport, World
from fuzz.baseline import check_baseline
from sidecar.model.address import Address
from sidecar.model.outcome import Failure
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.listener import Listener
from sidecar.wire.tunnel import TunnelClientConnection

# Neither HTTP/1 nor UTF-8 holds these bytes, and frames hardly ever.
MARK: Final = b"\xf5\xf6"
_MOST_ACTS = 24
_KINDS: Final[dict[str, Any]] = {
    "http1": H1ClientConnection,
    "http2": H2ClientConnection,
    "tcp": TunnelClientConnection,
}
_CONFIG = """\
clusters:
  users:
    protocol: {protocol}
    endpoints: {endpoints}
    limits: {{connections: 3, pending: 3}}
    timeouts: {{request: 20s, try: 5s}}
    retry: {{attempts: 3, on: [unsent, reset, 503], grpc_on: [unavailable]}}
    breaker: {{window: 10s, min_requests: 2, failure_ratio: 0.5, open: {{base: 1s, max: 2s}}}}
listeners:
  http:
    bind: 127.0.0.1:0
    routes: [{{to: users}}]
  forward:
    bind: 127.0.0.1:0
    mode: forward
    allow: ["*.example"]
    routes: [{{match: {{host: [a, users.internal]}}, to: users}}]
"""


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Endpoint:
    """One connection to an endpoint; `heard` are the bytes that came over it."""

    connection: Any
    transport: Transport
    heard: bytearray = field(default_factory=bytearray)

    def listen(self) -> None:
        """Take what has been written."""
        self.heard += self.transport.take()

    def leave(self) -> None:
        """Close it."""
        self.connection.connection_lost(None)
        self.listen()


@dataclass(frozen=True)
class Heard:
    """What the sidecar said in a play: to the client, and over each connection to an endpoint."""

    client: bytes
    endpoints: list[bytes]


def play(data: bytes, *, protocol: str = "http1", mode: str = "http", bytewise: bool = False) -> Heard:
    """The whole life of a client's connection, and what was said: AssertionError when an
    exception got out or something was not given back."""
    return Stage(protocol, mode, bytewise).play(data.split(MARK)[:_MOST_ACTS])


class Stage:
    """One sidecar, one client, endpoints that are dialled."""

    def __init__(self, protocol: str, mode: str, bytewise: bool = False, endpoints: int = 2) -> None:
        self._clock = Clock()
        named = [f"127.0.0.1:{9000 + number}" for number in range(endpoints)]
        self._world = World(_CONFIG.format(protocol=protocol, endpoints=named), self._clock)
        self._bytewise = bytewise
        self._errors: list[Any] = []
        self._dialled: list[Endpoint] = []
        self._open: list[Endpoint] = []
        runtime = self._world.runtime
        runtime.on_crash = self._errors.append
        self._world.loop.set_exception_handler(
            lambda loop, report: self._errors.append(report.get("exception") or report)
        )
        self._listener = Listener(runtime, mode, Address("127.0.0.1"), mode)

    def play(self, acts: Sequence[bytes]) -> Heard:
        """Act for act, then everybody leaves."""
        try:
            client = self._world.accept(self._listener._accept())
            for number, act in enumerate(acts):
                if number % 2:
                    self._endpoint(act)
                elif not client.closing:
                    self._hear(client, act)
                self._pass(0.05 * number)
            self._leave(client)
            if self._errors and isinstance(self._errors[0], Exception):
                raise self._errors[0]  # with its own trace
            assert not self._errors, self._errors[0]
            check_baseline(self._world, self._listener)
            return Heard(client.take(), [bytes(each.heard) for each in self._dialled])
        finally:
            self._world.close()

    def _hear(self, transport: Transport, data: bytes) -> None:
        whole = not self._bytewise or not data
        pieces = [data] if whole else [data[place : place + 1] for place in range(len(data))]
        for piece in pieces:
            if transport.closing:
                break
            if piece:
                transport.protocol.data_received(piece)
            elif not transport.protocol.eof_received():
                transport.close()

    def _endpoint(self, act: bytes) -> None:
        pools = self._world.dials.pools
        if not act and not self._open and pools:
            self._refuse()
            return
        self._answer_dials()
        if not self._open:
            return
        endpoint = self._open[0]
        endpoint.listen()
        if act:
            self._hear(endpoint.transport, act)
        else:
            self._open.remove(endpoint)
            endpoint.leave()

    def _answer_dials(self) -> None:
        while pools := self._world.dials.pools:
            connection = _KINDS[pools[0].protocol](self._world.runtime, pools[0])
            endpoint = Endpoint(connection, self._world.connect(connection))
            self._open.append(endpoint)
            self._dialled.append(endpoint)

    def _refuse(self) -> None:
        turn = self._world.turn
        turn.begin()
        self._world.dials.pools.pop(0).on_connect_failed(Failure.CONNECT_FAILED)
        turn.end()

    def _pass(self, seconds: float) -> None:
        """Time, with what was put off to it; who was closed is told that it is."""
        self._clock.now += seconds
        timers = self._world.timers
        self._world.go_on()
        if timers._heap and timers._heap[0] <= int(self._clock.now * 200):
            timers._on_alarm()
        for endpoint in list(self._open):
            if endpoint.transport.closing and endpoint in self._open:
                self._open.remove(endpoint)
                endpoint.leave()

    def _leave(self, client: Transport) -> None:
        client.protocol.connection_lost(None)
        for _ in range(20):
            # Dials and idle connections end; tries that are made again for nobody must not be.
            while self._world.dials.pools:
                self._refuse()
            while self._open:
                self._open.pop().leave()
            self._pass(0.5)
