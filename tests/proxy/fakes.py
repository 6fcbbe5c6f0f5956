"""The edge of the path, without sockets: streams, connections, a connector, a turn, timers.

Each keeps the rules of its seam (sidecar/model/stream.py, sidecar/upstream/pool.py):
nothing calls back before it returns, an ended or reset stream says nothing more.
"""

import heapq
from collections.abc import Callable
from typing import Any

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, get
from sidecar.model.outcome import Failure
from tests.support.clock import FakeClock


class FakeTurn:
    """A turn that ends when the world says so."""

    def __init__(self, clock: FakeClock) -> None:
        self.now = clock.now
        self.bulky = False
        self.rest: Any = None  # nothing is read in parts
        self.large, self.calm_from = 0, 0.0
        self.waiting: list[Any] = []
        self.next: list[Any] = []  # who waits for what is told in the next turn

    def begin(self) -> None:
        """Turns are the world's."""

    def end(self) -> None:
        """Turns are the world's."""

    def mark(self, connection: Any) -> None:
        """Nothing is written."""

    mark_first = mark

    def at_end(self, waiting: Any) -> None:
        self.waiting.append(waiting)

    def take_up(self) -> None:
        """A new turn, in which those are told who waited for one."""
        self.waiting += self.next
        self.next = []

    def later(self, callback: Callable[[], None]) -> None:
        """Nothing is read in parts."""

    def tell(self) -> bool:
        """Tell those who wait for the end of the turn; whether there were any."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.on_turn_end()
        return bool(waiting)


class FakeTimers:
    """One-shot timers on the fake clock, exact to the last bit."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int]] = []
        self.waiting: dict[int, Any] = {}
        self._serial = 0

    def add(self, delay: float, timed: Any) -> int:
        self._serial += 1
        self.waiting[self._serial] = timed
        heapq.heappush(self._heap, (self._clock.now + delay, self._serial))
        return self._serial

    def cancel(self, token: int) -> None:
        self.waiting.pop(token, None)

    def due(self, until: float) -> tuple[float, int] | None:
        """The next timer that fires by then."""
        while self._heap and self._heap[0][0] <= until:
            when, token = heapq.heappop(self._heap)
            if token in self.waiting:
                return when, token
        return None

    def fire(self, token: int) -> None:
        self.waiting.pop(token).on_timer(token)


class Upstream:
    """An upstream stream: what the path sent, and what the test lets the endpoint say."""

    trouble = ""
    followed = False  # whether more of the answer stands behind what is being told
    unread = False  # whether more was read, and is told in a later turn

    def __init__(self, world: Any, connection: "FakeConnection", receiver: Any) -> None:
        self.world = world
        self.connection = connection
        self.receiver: Any = receiver
        self.request: RequestHead | None = None
        self.chunks: list[bytes] = []
        self.request_trailers: Headers | None = None
        self.request_ended = False
        self.answered = False  # the answer has ended
        self.followed = False
        self.was_reset: Failure | None = None
        self.paused = False
        self.takes_more = True

    # Stream.

    def tell_later(self, waiting: Any) -> None:
        self.world.turn.next.append(waiting)

    def send_head(self, head: RequestHead, end: bool) -> None:
        assert self.request is None, "a second request head on one stream"
        self.request = head
        self._ended(end)

    def send_informational(self, head: ResponseHead) -> None:
        raise AssertionError("requests have no interim heads")

    def send_data(self, data: bytes, end: bool) -> bool:
        assert self.request is not None, "data before the head"
        assert not self.request_ended, "data after the end"
        if data:
            self.chunks.append(data)
        self._ended(end)
        return self.takes_more

    def send_trailers(self, trailers: Headers) -> None:
        assert not self.request_ended, "trailers after the end"
        self.request_trailers = trailers
        self._ended(True)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def reset(self, failure: Failure) -> None:
        assert self.was_reset is None, "reset twice"
        if not self.over:
            self.was_reset = failure
            self.receiver = None
            self.world.later(lambda: self.connection.stream_over(self))

    # What the endpoint says.

    def head(self, status: int = 200, headers: Headers | None = None, end: bool = False) -> None:
        with self.world.turn_of():
            self._told_end(end)
            length = get(headers or [], b"content-length")
            told = ResponseHead(status, headers or [], None if length is None else int(length))
            self.receiver.on_head(told, end)

    def informational(self, status: int) -> None:
        with self.world.turn_of():
            self.receiver.on_informational(ResponseHead(status, []))

    def data(self, data: bytes, end: bool = False) -> None:
        with self.world.turn_of():
            self._told_end(end)
            self.receiver.on_data(data, end)

    def trailers(self, trailers: Headers) -> None:
        with self.world.turn_of():
            self._told_end(True)
            self.receiver.on_trailers(trailers)

    def answer(self, status: int = 200, body: bytes = b"", headers: Headers | None = None) -> None:
        """A whole answer in one read."""
        with self.world.turn_of():
            self._told_end(True)
            receiver = self.receiver
            receiver.on_head(ResponseHead(status, headers or []), not body)
            if body:
                receiver.on_data(body, True)

    def answer_grpc(self, *messages: bytes, code: int = 0, extra: Headers | None = None) -> None:
        """Head, messages and trailers in one read; trailers-only without messages when it fails."""
        status: Headers = [(b"grpc-status", b"%d" % code), *(extra or [])]
        with self.world.turn_of():
            self._told_end(True)
            receiver = self.receiver
            kind: Headers = [(b"content-type", b"application/grpc")]
            if code and not messages:
                receiver.on_head(ResponseHead(200, kind + status), True)
                return
            receiver.on_head(ResponseHead(200, kind), False)
            for message in messages:
                receiver.on_data(message, False)
            receiver.on_trailers(status)

    def fails(self, failure: Failure) -> None:
        """The stream is gone."""
        with self.world.turn_of():
            assert not self.over, "a stream that is over cannot fail"
            receiver, self.receiver = self.receiver, None
            self.was_reset = failure
            self.world.later(lambda: self.connection.stream_over(self))
            receiver.on_reset(failure)

    def takes(self) -> None:
        """Request bytes are welcome again."""
        self.takes_more = True
        with self.world.turn_of():
            self.receiver.on_writable()

    # What a test asks.

    @property
    def over(self) -> bool:
        return self.was_reset is not None or (self.request_ended and self.answered)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def sent(self, name: bytes) -> bytes | None:
        """A field of the request head."""
        assert self.request is not None
        return get(self.request.headers, name)

    @property
    def endpoint(self) -> Any:
        return self.connection.pool.endpoint

    def _ended(self, end: bool) -> None:
        if end:
            self.request_ended = True
            if self.answered:
                self.world.later(lambda: self.connection.stream_over(self))

    def _told_end(self, end: bool) -> None:
        assert self.receiver is not None, "nobody listens to this stream any more"
        assert not self.answered, "said after the end"
        if end:
            self.answered = True
            if self.request_ended:
                self.world.later(lambda: self.connection.stream_over(self))


class FakeConnection:
    """A connection of either version to one endpoint."""

    def __init__(self, world: Any, pool: Any) -> None:
        self.world = world
        self.pool = pool
        self.transport: Any = object()
        self.idle_since = 0.0
        self.idle_hint = 0
        self.used = 0
        self.limit = world.streams_per_connection
        self.streams: list[Upstream] = []
        self.draining = False
        self.readable = False

    @property
    def open_streams(self) -> int:
        return len(self.streams)

    @property
    def free_streams(self) -> int:
        return 0 if self.draining or self.transport is None else max(0, self.limit - len(self.streams))

    def open(self, receiver: Any) -> Upstream | None:
        if self.pool.protocol == "http2" and not self.free_streams:
            return None
        self.used += 1
        stream = Upstream(self.world, self, receiver)
        self.streams.append(stream)
        self.world.streams.append(stream)
        return stream

    def stream_over(self, stream: Upstream) -> None:
        if stream not in self.streams:
            return
        was_full = self.pool.protocol == "http2" and not self.free_streams
        self.streams.remove(stream)
        if self.transport is None:
            return
        self.idle_since = self.world.clock.now
        if self.pool.protocol == "http2":
            if self.draining and not self.streams:
                self.lose()
            elif was_full and self.free_streams:
                self.pool.on_available(self)
        elif self.pool.protocol == "http1" and stream.was_reset is None:
            self.pool.on_idle(self)
        else:
            self.lose()

    def lose(self, idle: bool = False) -> None:
        """The connection is gone."""
        if self.transport is None:
            return
        self.transport = None
        self.world.connections.remove(self)
        if self.pool.protocol == "http1":
            self.pool.on_closed(self, idle)
        else:
            self.pool.on_closed(self)

    def close(self) -> None:
        self.world.later(self.lose)

    def drain(self) -> None:
        self.draining = True
        self.world.later(self._drained)

    def _drained(self) -> None:
        if not self.streams:
            self.lose()
        else:
            self.pool.on_draining(self)


class FakeConnector:
    """Dials that the world answers at the end of the turn, or the test by hand."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.dials: list[Any] = []
        self.by_hand = False
        self.dead: set[str] = set()

    def dial(self, pool: Any, timeout: float) -> None:
        self.dials.append(pool)

    def readable(self, connection: Any) -> bool:
        return bool(connection.readable)

    def connects(self) -> FakeConnection:
        """The oldest dial succeeds."""
        pool = self.dials.pop(0)
        connection = FakeConnection(self.world, pool)
        self.world.connections.append(connection)
        with self.world.turn_of():
            pool.on_connected(connection)
        return connection

    def fails(self, failure: Failure = Failure.CONNECT_FAILED) -> None:
        """The oldest dial fails."""
        pool = self.dials.pop(0)
        with self.world.turn_of():
            pool.on_connect_failed(failure)

    def go_on(self) -> bool:
        """Answer one dial, unless the test does; whether there was one."""
        if self.by_hand or not self.dials:
            return False
        if self.dials[0].endpoint.name in self.dead:
            self.fails()
        else:
            self.connects()
        return True


class Client:
    """The downstream stream: what the client got, and what it says."""

    unread = False

    def __init__(self, world: Any, protocol: str) -> None:
        self.world = world
        self.protocol = protocol
        self.peer = "10.9.9.9:1234"
        self.receiver: Any = None
        self.interim: list[int] = []
        self.answer: ResponseHead | None = None
        self.chunks: list[bytes] = []
        self.trailers: Headers | None = None
        self.ended = False
        self.was_reset: Failure | None = None
        self.paused = False
        self.takes_more = True

    # Stream.

    def tell_later(self, waiting: Any) -> None:
        self.world.turn.next.append(waiting)

    def send_head(self, head: ResponseHead, end: bool) -> None:
        assert self.answer is None, "a second answer"
        self.answer = head
        self.ended = end

    def send_informational(self, head: ResponseHead) -> None:
        assert self.answer is None, "1xx after the head"
        self.interim.append(head.status)

    def send_data(self, data: bytes, end: bool) -> bool:
        assert self.answer is not None, "body before the head"
        assert not self.ended, "body after the end"
        if data:
            self.chunks.append(data)
        self.ended = end
        return self.takes_more

    def send_trailers(self, trailers: Headers) -> None:
        assert self.answer is not None, "trailers before the head"
        assert not self.ended, "trailers after the end"
        self.trailers = trailers
        self.ended = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def reset(self, failure: Failure) -> None:
        assert not self.ended or self.status == 101, "reset after the end"  # of a pipe there are two
        self.was_reset = failure
        self.ended = True

    # What the client says.

    def sends(self, data: bytes, end: bool = False) -> None:
        with self.world.turn_of():
            self.receiver.on_data(data, end)

    def sends_trailers(self, trailers: Headers) -> None:
        with self.world.turn_of():
            self.receiver.on_trailers(trailers)

    def leaves(self) -> None:
        with self.world.turn_of():
            self.receiver.on_reset(Failure.CANCELLED)

    def takes(self) -> None:
        """The client reads again."""
        self.takes_more = True
        with self.world.turn_of():
            self.receiver.on_writable()

    # What a test asks.

    @property
    def status(self) -> int | None:
        return None if self.answer is None else self.answer.status

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def got(self, name: bytes) -> bytes | None:
        """A field of the answer's head."""
        return None if self.answer is None else get(self.answer.headers, name)

    @property
    def grpc_status(self) -> bytes | None:
        """The gRPC status, in trailers or head."""
        return get(self.trailers, b"grpc-status") if self.trailers is not None else self.got(b"grpc-status")
