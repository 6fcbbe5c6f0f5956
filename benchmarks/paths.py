"""One request through the whole path, in memory: what the proxy itself costs without
the kernel.

Default policies are on: peak-EWMA, breaker, budget, limits, deadline, meters. A
path's `cycle(measure)` sends requests and answers; every piece of work of the
proxy goes through `measure(receive, data)`, everything else (the HTTP/2 peers) is
not measured. `cycle` gives back how many exchanges were completed.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import ngh2

from benchmarks.measure import Effort, Figure, quiet
from benchmarks.world import Clock, World
from sidecar.proxy.exchange import beginner
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h1_server import H1ServerConnection
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_server import H2ServerConnection

Receive = Callable[[bytes], None]
Measure = Callable[[Receive, bytes], None]

_REQUEST = b"GET /v1/users/42 HTTP/1.1\r\nHost: users.internal:8080\r\n\r\n"
_BODY = b"x" * 114
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 09:14:03 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 114\r\nConnection: keep-alive\r\n\r\n" + _BODY
)

# A unary gRPC call as grpcio sends it: 32 bytes of message both ways, one of trailers.
_MESSAGE = b"\0" + (32).to_bytes(4, "big") + b"m" * 32
_CALL = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/users.v1.Users/Get"),
    (b":authority", b"users.internal:50051"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python/1.80.0"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
    (b"grpc-timeout", b"1S"),
]
_ANSWER = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity, gzip")]
_TRAILERS = [(b"grpc-status", b"0")]
# Calls that arrive in one read, as with a busy client.
_BATCH = 16


class Path(Protocol):
    """One client's connection, one endpoint's, and what goes over them."""

    name: str

    def cycle(self, measure: Measure) -> int:
        """Requests and their answers; how many were completed."""

    def close(self) -> None:
        """The end of it."""


class Http1Path:
    """GET with 114 bytes of answer, over kept-alive connections."""

    name = "HTTP/1.1"

    def __init__(self, clock: Clock = time.monotonic) -> None:
        config = "clusters: {users: {listen: '127.0.0.1:0', endpoints: ['127.0.0.1:9000']}}"
        self.world = world = World(config, clock)
        self._server = H1ServerConnection(world.runtime, beginner(world.runtime, "users"), lambda connection: None)
        self._out = world.accept(self._server)
        self._server.data_received(_REQUEST)
        self._client = H1ClientConnection(world.runtime, world.dials.pools[0])
        self._upstream = world.connect(self._client)
        self._client.data_received(_RESPONSE)
        answer = self._out.take()
        if not (answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(_BODY)):
            raise RuntimeError(f"the path is broken: {answer!r}")
        self._upstream.clear()

    def cycle(self, measure: Measure) -> int:
        """One request."""
        measure(self._server.data_received, _REQUEST)
        measure(self._client.data_received, _RESPONSE)
        done = bool(self._out.take())
        self._upstream.clear()
        return int(done)

    def close(self) -> None:
        """The end of it."""
        self.world.close()


class GrpcPath:
    """Unary gRPC calls, 16 in flight, over one HTTP/2 connection on each side."""

    name = "HTTP/2, unary gRPC"

    def __init__(self, clock: Clock = time.monotonic) -> None:
        config = "clusters: {users: {listen: '127.0.0.1:0', protocol: http2, endpoints: ['127.0.0.1:9000']}}"
        self.world = world = World(config, clock)
        self._server = H2ServerConnection(world.runtime, beginner(world.runtime, "users"), lambda connection: None)
        self._out = world.accept(self._server)
        # The peers: a client of our server's side, a server of our client's side.
        self._caller = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=1000))
        self._caller.initiate_connection()
        self._service = ngh2.Connection(ngh2.Role.SERVER)
        self._service.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000})
        self._caller.receive_data(self._out.take())
        self._read(self._server, self._calls(1))
        self._client = H2ClientConnection(world.runtime, world.dials.pools[0])
        self._upstream = world.connect(self._client)
        for _ in range(3):  # SETTINGS and their acknowledgements
            self._read(self._client, self._serve())
        if self._read_answers() != 1:
            raise RuntimeError("the path is broken: a call was not answered")
        while world.runtime.looks.take(clock()):
            pass  # as on a busy process, of which few frames are looked at

    def _calls(self, count: int) -> bytes:
        for _ in range(count):
            stream_id = self._caller.send_request(_CALL)
            self._caller.send_data(stream_id, _MESSAGE, end_stream=True)
        return bytes(self._caller.data_to_send())

    def _serve(self) -> bytes:
        """What the service says to what it has been sent."""
        service = self._service
        service.receive_data(self._upstream.take())
        for event in service.events():
            if type(event) is ngh2.RequestReceived:
                service.send_response(event.stream_id, _ANSWER)
                service.send_data(event.stream_id, _MESSAGE)
                service.send_trailers(event.stream_id, _TRAILERS)
        return bytes(service.data_to_send())

    def _read_answers(self) -> int:
        self._caller.receive_data(self._out.take())
        return sum(type(event) is ngh2.TrailersReceived for event in self._caller.events())

    def cycle(self, measure: Measure) -> int:
        """Sixteen calls."""
        self._measured(measure, self._server, self._calls(_BATCH))
        self._measured(measure, self._client, self._serve())
        return self._read_answers()

    def _measured(self, measure: Measure, connection: Any, data: bytes) -> None:
        """A read; of one that is looked at, which a new connection's are, parts come later."""
        measure(connection.data_received, data)
        while connection.unread:
            self.world.go_on()

    def _read(self, connection: Any, data: bytes) -> None:
        self._measured(lambda receive, what: receive(what), connection, data)

    def close(self) -> None:
        """The end of it."""
        self.world.close()


PATHS: tuple[Callable[[Clock], Path], ...] = (Http1Path, GrpcPath)


def microseconds(path: Path, effort: Effort) -> float:
    """Of one request, in the best round."""
    spent = 0.0
    clock = time.perf_counter

    def measure(receive: Receive, data: bytes) -> None:
        nonlocal spent
        start = clock()
        receive(data)
        spent += clock() - start

    lowest = float("inf")
    with quiet():
        for _ in range(effort.rounds):
            spent, done = 0.0, 0
            while done < effort.number:
                done += _at_least_one(path.cycle(measure))
            lowest = min(lowest, spent / done)
    return lowest * 1e6


def _at_least_one(done: int) -> int:
    if not done:
        raise RuntimeError("no request was answered: nothing was measured")
    return done


def figures(effort: Effort) -> list[Figure]:
    """Time of each path."""
    found = []
    for make in PATHS:
        path = make(time.monotonic)
        found.append(Figure("path, in memory", path.name, microseconds(path, effort), "us/request"))
        path.close()
    return found
