"""HTTP/2 upstream: one connection to an endpoint, many exchanges at once."""

import asyncio
from typing import Any, Protocol

from sidecar.codec.h2 import (
    ASSUMED_STREAMS,
    FEW_FIELDS,
    AltSvcReceived,
    ConnectionClosed,
    ConnectionClosingError,
    DataReceived,
    ErrorCode,
    GoAwayReceived,
    H2Error,
    InformationalResponseReceived,
    OriginReceived,
    PingAcknowledged,
    PingReceived,
    PriorityUpdateReceived,
    ResponseReceived,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
    client_connection,
    oversized,
    response_head,
    stream_limit,
    upstream_failure,
)
from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.calm import MAX_INTERIM
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h2_connection import H2Connection
from sidecar.wire.h2_stream import H2ClientStream
from sidecar.wire.last_words import last_words
from sidecar.wire.peer import peer_of

# Frames that say nothing to a proxy (RFC 7838 4, RFC 8336 2, RFC 9218 7.1).
_USELESS = frozenset((AltSvcReceived, OriginReceived, PriorityUpdateReceived))
_NAMES = {int(code): code.name for code in ErrorCode}
_KEEPALIVE_PING = b"keepaliv"


class Owner(Protocol):
    """The pool that a connection belongs to. Called inside a turn, and never from
    within a method of a stream."""

    def on_available(self, connection: Any) -> None:
        """A connection that was full has free streams again."""

    def on_draining(self, connection: Any) -> None:
        """It takes no new stream; those under way may still end."""

    def on_closed(self, connection: Any) -> None:
        """It is gone."""


class H2ClientConnection(H2Connection):
    """One connection to an endpoint.

    `open_streams` counts from `open` on, `limit` is what the peer allows.
    `ping_interval` in seconds makes a connection with open streams prove that it
    is alive: a PING without an answer within one interval ends it. 0.0 is off.
    """

    side = "upstream"

    __slots__ = (
        "_announced",
        "_drain_told",
        "_failure",
        "_freed",
        "_greeting",
        "_ping_interval",
        "_ping_pending",
        "_ping_token",
        "_stillborn",
        "idle_since",
        "limit",
        "open_streams",
        "owner",
        "trouble",
    )

    def __init__(self, runtime: Runtime, owner: Owner, ping_interval: float = 0.0) -> None:
        super().__init__(runtime, client_connection(), peer_opens=False, preface=0)
        self.owner = owner
        self.open_streams = 0
        self.trouble = ""  # what was wrong last with what the server sent, in a few words
        self.idle_since = 0.0  # when its last stream ended, for the pool
        self.limit = ASSUMED_STREAMS
        self._announced = False  # whether the peer's first SETTINGS came
        self._greeting: asyncio.Future[None] | None = None  # who waits for them
        self._drain_told = False
        self._failure = Failure.RESET  # what the streams are told that are left at the end
        self._freed = False  # whether the owner is to hear of free streams
        # Streams that could not be started; told at the end of the turn.
        self._stillborn: list[H2ClientStream] = []
        self._ping_interval = ping_interval
        self._ping_pending = False
        self._ping_token = 0

    # For the pool.

    @property
    def free_streams(self) -> int:
        """How many streams may be opened now."""
        return 0 if self.draining else max(0, self.limit - self.open_streams)

    @property
    def usable(self) -> bool:
        """Whether it takes new streams, now or when others have ended."""
        return not self.draining

    async def greeted(self) -> None:
        """Wait for the server's SETTINGS (RFC 9113 3.4); OSError when it closes first.

        A socket that was accepted proves little: the kernel does that for a process
        that hangs or is about to go. What is sent before it has said a word may have
        been read or not, so that no call could be repeated safely.
        """
        if self.closed:
            raise ConnectionResetError("closed before its SETTINGS")
        if not self._announced:
            self._greeting = asyncio.get_running_loop().create_future()
            await self._greeting

    def open(self, receiver: Receiver) -> H2ClientStream | None:
        """A new stream, or None when there is none free."""
        if self.draining or self.open_streams >= self.limit:
            return None
        self.open_streams += 1
        return H2ClientStream(self, receiver)

    def drain(self) -> None:
        """Take no new stream; GOAWAY and close when the last has ended."""
        self.draining = True
        if not self.dirty:
            self.turn.mark(self)

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open: it can carry streams at once."""
        super().connection_made(transport)
        if self._ping_interval:
            self._ping_token = self.runtime.timers.add(self._ping_interval, self)

    def on_timer(self, token: int) -> None:
        """Time for a sign of life."""
        if token != self._ping_token or self.closed:
            super().on_timer(token)
            return
        if self._ping_pending:
            self.abort()
            return
        self._ping_token = self.runtime.timers.add(self._ping_interval, self)
        if not self.streams:
            return  # servers punish pings on idle connections
        try:
            self.h2.ping(_KEEPALIVE_PING)
        except H2Error:
            return
        self._ping_pending = True
        if not self.dirty:
            self.turn.mark(self)

    # From streams.

    def not_started(self, stream: H2ClientStream) -> None:
        """A GOAWAY came or the numbers have run out: nothing was sent, and no
        other stream will begin here."""
        self.draining = True
        stream.local_ended = True
        self._stillborn.append(stream)
        if not self.dirty:
            self.turn.mark(self)

    def drop(self, stream: H2ClientStream, code: int) -> None:
        """Give a stream up."""
        self._release_slot()
        if not stream.id:
            self._forget(stream)
            return
        super().drop(stream, code)

    def _release_slot(self) -> None:
        if self.open_streams >= self.limit or self.draining:
            self._freed = True
            if not self.dirty:
                self.turn.mark(self)
        self.open_streams -= 1
        if not self.open_streams:
            self.idle_since = self.turn.now

    # Events.

    def _dispatch(self, events: list[Any]) -> None:  # noqa: C901 - one loop over every kind
        """Tell of every event; inline for the same reason as in the server."""
        streams = self.streams
        count = len(events)
        stream: H2ClientStream | None = None
        events_left = enumerate(events, 1)
        while True:
            try:
                for index, event in events_left:
                    kind = type(event)
                    if kind is DataReceived:
                        stream_id = event.stream_id
                        stream = streams.get(stream_id)
                        self._on_data(stream, stream_id, event.data, event.end_stream)
                    elif kind is ResponseReceived:
                        stream_id = event.stream_id
                        stream = streams.get(stream_id)
                        if stream is not None and stream.receiver is not None:
                            if index < count:
                                following = events[index]
                                behind = type(following)
                                if (behind is DataReceived or behind is TrailersReceived) and (
                                    following.stream_id == stream_id
                                ):
                                    stream.followed = True
                            stream.answered = True
                            end = event.end_stream
                            if end:
                                stream.remote_ended = True
                            headers = event.headers
                            head = response_head(headers)
                            if head is None or ((len(headers) > FEW_FIELDS or self._large) and oversized(headers)):
                                self._not_a_response(stream)
                            else:
                                stream.receiver.on_head(head, end)
                    elif kind is StreamClosed:
                        stream = streams.pop(event.stream_id, None)
                        if stream is None:
                            if event.error_code and not self.draining:
                                self._closed_by_error(event)
                        else:
                            left = self.open_streams - 1
                            if left and left + 1 < self.limit and not self.draining:
                                self.open_streams = left  # what _release_slot comes to, nearly always
                            else:
                                self._release_slot()
                            if stream.remote_ended and not stream.held and not stream.blocked:
                                stream.closed = True
                                stream.receiver = None
                            else:
                                self._stream_closed(stream, self._why_closed(event))
                                if event.error_code and event.local_error is None and not self.draining:
                                    self._closed_by_error(event)
                    elif kind is TrailersReceived:
                        stream = streams.get(event.stream_id)
                        if stream is not None:
                            headers = event.headers
                            if (len(headers) > FEW_FIELDS or self._large) and oversized(headers):
                                self._not_a_response(stream)
                            else:
                                self._on_trailers(stream, headers)
                    elif kind is WindowUpdated:
                        stream = None
                        self._updates -= 1
                        if not self._updates:
                            self._many_updates()
                        if self._blocked:
                            self._window_opened(event.stream_id)
                    else:
                        stream = None
                        self._on_rare_event(event)
                return
            except Exception as error:
                self._report(error, stream)  # and go on with the next

    def _on_rare_event(self, event: Any) -> None:
        kind = type(event)
        if kind is InformationalResponseReceived:
            self._on_informational(event)
        elif kind is StreamReset:
            self._watch.ended(event.stream_id, by_peer=True)
            stream = self.streams.pop(event.stream_id, None)
            if stream is not None:
                self._release_slot()
                self.trouble = f"it reset the stream: {_named(event.error_code)}"
                self._stream_closed(stream, upstream_failure(event.error_code, stream.answered))
            else:
                self.spend("rapid_reset")  # of a stream that has ended: one for each is honest
        elif kind is SettingsReceived:
            self.spend("settings")
            self._on_settings(event)
        elif kind is GoAwayReceived:
            self.spend("goaway")
            self.drain()
        elif kind is PingReceived:
            self.spend("ping")
        elif kind is PingAcknowledged:
            self.spend("ping")  # hardly any was asked for
            self._ping_pending = False
        elif kind in _USELESS:
            self.spend("useless_frames")
        elif kind is ConnectionClosed:
            if event.error_code and not self.draining:
                self._failure = Failure.PROTOCOL  # it was us who ended it
                self.trouble = _named(event.error_code) if event.error_code else ""
                self._gone_wrong(event)
            self._ending = True
            if not self.dirty:
                self.turn.mark(self)

    def _on_informational(self, event: InformationalResponseReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None and stream.receiver is not None:
            head = response_head(event.headers)
            stream.interim = getattr(stream, "interim", 0) + 1
            if stream.interim > MAX_INTERIM or oversized(event.headers):
                self._not_a_response(stream)
            elif head is not None:
                stream.receiver.on_informational(head)

    def _on_settings(self, event: SettingsReceived) -> None:
        before = self.limit
        self.limit = stream_limit(event.settings, before if self._announced else -1)
        self._announced = True
        if self._greeting is not None:
            if not self._greeting.done():
                self._greeting.set_result(None)
            self._greeting = None
        elif self.limit > before:
            self._freed = True
        # A new INITIAL_WINDOW_SIZE moves every stream's window.
        self._window_opened(0)
        if not self.dirty:
            self.turn.mark(self)

    def _not_a_response(self, stream: H2ClientStream) -> None:
        """Its status is none (RFC 9110 15), or its head or trailers are over what we told the
        server (RFC 9113 6.5.2). Others on the connection go on."""
        receiver = stream.receiver
        if self._was_dear():
            self._alarm()
        self.trouble = "a head or trailers that are none, or are too large"
        self.drop(stream, int(ErrorCode.PROTOCOL_ERROR))
        if receiver is not None:
            receiver.on_reset(Failure.PROTOCOL)

    def _why_closed(self, event: StreamClosed) -> Failure:
        """Why the library closed a stream that the peer did not reset."""
        if isinstance(event.local_error, ConnectionClosingError):
            return Failure.UNSENT  # its head was still queued when a GOAWAY came
        if event.local_error is not None:
            return Failure.HEADERS_TOO_LARGE
        if event.error_code == ErrorCode.REFUSED_STREAM:
            return Failure.REFUSED  # above the last stream of a GOAWAY
        self.trouble = _named(event.error_code) if event.error_code else ""
        return Failure.PROTOCOL if event.error_code else Failure.RESET

    def _stream_closed(self, stream: H2ClientStream, failure: Failure) -> None:
        """A stream that ended before both directions had. A response that is
        complete was told entirely, whatever became of the request."""
        receiver = stream.receiver
        self._forget(stream)
        if receiver is not None and not stream.remote_ended:
            receiver.on_reset(failure)

    def _after_flush(self) -> None:
        if self._stillborn:
            stillborn, self._stillborn = self._stillborn, []
            for stream in stillborn:
                if not stream.closed:
                    self._release_slot()
            self._reset_all(stillborn, Failure.UNSENT)
        if self._freed:
            self._freed = False
            if self.free_streams:
                self.owner.on_available(self)
        if self.draining and not self.closed:
            self._go_on_draining()

    def _go_on_draining(self) -> None:
        if not self._drain_told:
            self._drain_told = True
            self.owner.on_draining(self)
        if not self.open_streams and not self._ending:
            self._ending = True
            try:
                self.h2.terminate_connection(int(ErrorCode.NO_ERROR))
                self._write()
            except H2Error:
                return

    # For the guard.

    @property
    def peer_name(self) -> str:
        """The endpoint's address."""
        return "" if self.transport is None else peer_of(self.transport)

    def was_opened(self, stream_id: int, seen: int) -> bool:
        """Whether a stream is not idle any more."""
        return bool(stream_id & 1) and stream_id < self.h2.next_stream_id

    def give_up(self, code: int, reason: str = "") -> None:
        """End the connection for what the server does."""
        self._failure = Failure.PROTOCOL
        self.trouble = f"{_named(code)}, {reason}" if reason else _named(code)
        super().give_up(code, reason)

    def break_stream(self, stream: H2ClientStream, code: int) -> None:
        """End a stream for what the server did on it."""
        self.trouble = _named(code)
        super().break_stream(stream, code)

    def _is_complete(self, stream: H2ClientStream) -> bool:
        return stream.remote_ended

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone. What the server has said before counts."""
        self.turn.begin()
        try:
            transport, self.transport = self.transport, None
            self.draining = True  # nobody may take it up any more
            if error is not None and transport is not None:
                for data in last_words(transport):
                    self.data_received(data)
            if self._backlog or self._unread:
                self._tell_rest()
        finally:
            self.turn.end()
        super().connection_lost(error)

    def _lose_streams(self) -> None:
        stillborn, self._stillborn = self._stillborn, []
        if self._failure is Failure.RESET:
            self.trouble = ""  # that was of another stream
        given = [stream for number, stream in self.streams.items() if number <= self._given]
        unsent = [stream for number, stream in self.streams.items() if number > self._given]
        self.streams.clear()
        self.open_streams = 0
        self._reset_all(unsent, Failure.UNSENT)
        self._reset_all(stillborn, Failure.UNSENT)
        self._reset_all(given, self._failure)

    def _lost(self) -> None:
        self.runtime.timers.cancel(self._ping_token)
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError("closed before its SETTINGS"))
        self.owner.on_closed(self)


def _named(code: int) -> str:
    """An error code by its name (RFC 9113 7)."""
    return _NAMES.get(code, f"error {code}")
