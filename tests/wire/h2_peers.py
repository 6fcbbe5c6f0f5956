"""HTTP/2 connections of ours against a real library on the other side, in memory.

`Downstream` is a client (ngh2) of our server connection, `Upstream` a server of our
client connection. `pump` carries bytes to and fro until both sides are silent.
"""

from collections.abc import Callable
from typing import Any

import ngh2

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.policy.crowd import Crowd
from sidecar.policy.growth import Growth
from sidecar.policy.looks import Looks
from sidecar.policy.pace import Pace
from sidecar.policy.places import Places
from sidecar.proxy.abuse import Abuse
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_server import H2ServerConnection
from sidecar.wire.turn import Turn
from tests.support.clock import FakeClock

REQUEST: Headers = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/pkg.Users/Get"),
    (b":authority", b"users.internal:80"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
RESPONSE: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Headers = [(b"grpc-status", b"0")]


def request(**changes: Any) -> RequestHead:
    """A request head as an exchange would send it."""
    values: dict[str, Any] = {
        "method": b"POST",
        "path": b"/pkg.Users/Get",
        "authority": b"users.internal:80",
        "headers": [(b"te", b"trailers"), (b"content-type", b"application/grpc")],
        "length": None,
    }
    return RequestHead(**(values | changes))


_ENDLESS = Pace(first=0.0, idle=0.0)


class FakeLoop:
    """Collects what is called soon."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.reported: list[dict[str, Any]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_exception_handler(self, report: dict[str, Any]) -> None:
        self.reported.append(report)

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class Busy:
    """So many requests are under way."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight


class FakeTimers:
    """One-shot timers that fire when the test says so."""

    def __init__(self, turn: Turn, clock: FakeClock) -> None:
        self._turn = turn
        self._clock = clock
        self.waiting: dict[int, tuple[float, Any]] = {}
        self._serial = 0

    def add(self, delay: float, timed: Any) -> int:
        self._serial += 1
        self.waiting[self._serial] = (self._clock() + delay, timed)
        return self._serial

    def cancel(self, token: int) -> None:
        self.waiting.pop(token, None)

    def advance(self, seconds: float) -> None:
        """Let time pass, firing in order what becomes due."""
        until = self._clock() + seconds
        while due := sorted((when, token) for token, (when, _) in self.waiting.items() if when <= until):
            when, token = due[0]
            self._clock.advance(max(0.0, when - self._clock()))
            _, timed = self.waiting.pop(token)
            self._turn.begin()
            timed.on_timer(token)
            self._turn.end()
        self._clock.advance(max(0.0, until - self._clock()))


class FakeRuntime:
    """What connections use of sidecar.proxy.runtime.Runtime."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.clock = FakeClock()
        self.turn = Turn(self.loop, self.clock)  # type: ignore[arg-type]
        self.timers = FakeTimers(self.turn, self.clock)
        self.crashes: list[BaseException] = []
        self.refusals: list[int] = []
        self.slow: list[str] = []
        self.pressure = 0
        self.crowd = Crowd()
        self.gate: Any = None
        self.looks = Looks()
        self.growth = Growth()
        self.places = Places()
        self.abuse = Abuse(self.clock)

    def use_up_looks(self) -> None:
        """Others have had what looks there are."""
        while self.looks.take(self.clock()):
            pass

    def on_crash(self, error: BaseException) -> None:
        self.crashes.append(error)

    def too_slow(self, what: str) -> None:
        self.slow.append(what)

    def refused(self, connection: Any, status: int, message: str) -> None:
        self.refusals.append(status)


class FakeTransport:
    """Keeps what is written; a test says when it is full and when it is lost."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.closing = False
        self.ended = False
        self.aborted = False
        self.unsent = 0
        self.reading = True
        self.limits: tuple[int, int | None] | None = None

    def set_write_buffer_limits(self, high: int, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.closing, "written after close"
        assert not self.ended, "written after the end"
        self.writes += 1
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        self.closing = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.ended, "ended twice"
        self.ended = True

    def abort(self) -> None:
        self.closing = True
        self.aborted = True


class Heard:
    """A receiver that writes down what it hears. `busy` is set by a test while it is
    inside a method of a stream: hearing anything then breaks the seam's rule."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream
        self.log: list[tuple[Any, ...]] = []
        self.body = bytearray()
        self.ended = False
        self.failure: Failure | None = None
        self.trailers: Headers | None = None
        self.head: Any = None
        self.on_writable_do: Callable[[], None] = lambda: None

    def _note(self, *entry: Any) -> None:
        assert self.failure is None, f"{entry} after a reset"
        assert not (self.ended and entry[0] in ("head", "data", "trailers")), f"{entry} after the end"
        self.log.append(entry)

    def on_head(self, head: ResponseHead, end: bool) -> None:
        self._note("head", head.status, end)
        self.head = head
        self.ended = end

    def on_informational(self, head: ResponseHead) -> None:
        self._note("informational", head.status)

    def on_data(self, data: bytes, end: bool) -> None:
        self._note("data", len(data), end)
        self.body += data
        self.ended = end

    def on_trailers(self, trailers: Headers) -> None:
        self._note("trailers", trailers)
        self.trailers = trailers
        self.ended = True

    def on_writable(self) -> None:
        self.log.append(("writable",))
        self.on_writable_do()

    def on_full(self) -> None:
        self.log.append(("full",))

    def on_reset(self, failure: Failure) -> None:
        self._note("reset", failure)
        self.failure = failure

    def on_crash(self, error: Exception) -> None:
        """As an exchange: reports it, and ends its stream."""
        self._note("crash")
        self.failure = Failure.INTERNAL
        getattr(self.stream, "connection", self.stream).runtime.on_crash(error)
        self.stream.reset(Failure.INTERNAL)


class _Wired:
    """A connection of ours and the library's connection at the other end."""

    connection: Any
    peer: Any

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.lost = False
        self.events: list[Any] = []

    def pump(self, peer_reads: bool = True) -> list[Any]:
        """Carry bytes until both are silent; the peer's new events."""
        start = len(self.events)
        while True:
            self.runtime.loop.run()
            data = self.transport.take() if peer_reads else b""
            if data and not self.of(ngh2.ConnectionClosed):
                self.peer.receive_data(data)
            self.events += self.peer.events()
            back = self.peer.data_to_send()
            self.events += self.peer.events()
            if back and not self.lost and not self.transport.closing and not self.transport.ended:
                self.connection.data_received(back)
                self.runtime.loop.run()
                assert self.transport.reading or self.transport.closing, "it does not read any more"
            elif not data:
                break
        return self.events[start:]

    def lose(self) -> None:
        """The transport is gone."""
        self.lost = True
        self.connection.connection_lost(None)
        self.runtime.loop.run()

    def in_turn(self, action: Callable[[], Any]) -> Any:
        """Do something as a callback of the event loop would."""
        self.runtime.turn.begin()
        try:
            return action()
        finally:
            self.runtime.turn.end()

    def of(self, kind: type) -> list[Any]:
        """The peer's events of one type."""
        return [event for event in self.events if type(event) is kind]

    def body(self, stream_id: int) -> bytes:
        """What the peer was sent on a stream."""
        return b"".join(event.data for event in self.of(ngh2.DataReceived) if event.stream_id == stream_id)

    def codes(self) -> dict[int, int]:
        """The codes of the RST_STREAM frames that the peer received."""
        return {event.stream_id: event.error_code for event in self.of(ngh2.StreamReset)}


class Downstream(_Wired):
    """A client of our H2ServerConnection. `begun` holds (stream, head, end, receiver)."""

    def __init__(self, auto_window_update: bool = True, settings: dict[int, int] | None = None) -> None:
        super().__init__()
        self.begun: list[tuple[Any, RequestHead, bool, Heard]] = []
        self.closed: list[Any] = []
        self.on_begin: Callable[[Any, RequestHead, bool], None] = lambda stream, head, end: None
        self.connection = H2ServerConnection(self.runtime, self._begin, self.closed.append, pace=_ENDLESS)  # type: ignore[arg-type]
        # Its own limit on what it sends is far above ours on what we take.
        config = ngh2.Configuration(auto_window_update=auto_window_update, max_send_header_block_length=10_000_000)
        self.peer = ngh2.Connection(ngh2.Role.CLIENT, config)
        self.peer.initiate_connection(settings)
        self.connection.connection_made(self.transport)
        self.pump()

    def _begin(self, stream: Any, head: RequestHead, end: bool) -> None:
        heard = Heard(stream)
        stream.receiver = heard
        self.begun.append((stream, head, end, heard))
        self.on_begin(stream, head, end)

    def ask(self, headers: Headers | None = None, body: bytes | None = None, end: bool = True) -> int:
        """Queue a request at the client; `pump` sends it."""
        stream_id: int = self.peer.send_request(headers or REQUEST, end_stream=body is None and end)
        if body is not None:
            self.peer.send_data(stream_id, body, end_stream=end)
        return stream_id

    def serve(self, headers: Headers | None = None, body: bytes | None = None, end: bool = True) -> tuple[Any, Heard]:
        """Send a request and give its stream and receiver."""
        self.ask(headers, body, end)
        self.pump()
        stream, _, _, heard = self.begun[-1]
        return stream, heard


class Upstream(_Wired):
    """A server of our H2ClientConnection. It is its own owner."""

    def __init__(self, settings: dict[int, int] | None = None, pump: bool = True, ping_interval: float = 0.0) -> None:
        super().__init__()
        self.told: list[str] = []
        self.connection = H2ClientConnection(self.runtime, self, ping_interval)  # type: ignore[arg-type]
        # It may send more than we take.
        self.peer = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(max_send_header_block_length=1 << 20))
        self.peer.initiate_connection({3: 1000} if settings is None else settings)
        self.connection.connection_made(self.transport)
        if pump:
            self.pump()
            self.told.clear()  # of the room that the first SETTINGS made

    def on_available(self, connection: Any) -> None:
        self.told.append("available")

    def on_draining(self, connection: Any) -> None:
        self.told.append("draining")

    def on_closed(self, connection: Any) -> None:
        self.told.append("closed")

    def ask(self, head: RequestHead | None = None, body: bytes | None = None, end: bool = True) -> tuple[Any, Heard]:
        """Send a request through our connection, as an exchange does."""
        heard = Heard()

        def start() -> None:
            stream = heard.stream = self.connection.open(heard)
            stream.send_head(head or request(), body is None and end)
            if body is not None:
                stream.send_data(body, end)

        self.in_turn(start)
        return heard.stream, heard

    def answer(self, stream_id: int, body: bytes = b"pong", trailers: Headers | None = TRAILERS) -> None:
        """Queue a whole response at the server."""
        self.peer.send_response(stream_id, RESPONSE)
        self.peer.send_data(stream_id, body, end_stream=trailers is None)
        if trailers is not None:
            self.peer.send_trailers(stream_id, trailers)
