"""One HTTP/2 stream as a Stream: what both directions of a connection share.

A stream keeps no queue: bytes to send wait in libnghttp2, bytes that came are
told at once and their flow-control credit is what is held back.
"""

from typing import TYPE_CHECKING

from sidecar.codec.h2 import H2Error, request_fields, reset_code, response_fields, trailer_fields
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.wire.turn import TurnEnd

if TYPE_CHECKING:
    from sidecar.wire.h2_client import H2ClientConnection
    from sidecar.wire.h2_connection import H2Connection
    from sidecar.wire.h2_server import H2ServerConnection

# Bytes of one stream that may wait for the peer's window or the socket. Below the first read
# of an endpoint on this machine (64 KiB), or a second would wait behind each of them.
HIGH_WATER = 48 * 1024


class H2Stream:
    """Sending, pausing and flow control of one stream. `id` is 0 until HEADERS
    were queued. `held` counts the bytes told to a paused receiver, which the peer
    is given credit for only once it resumes."""

    __slots__ = (
        "answered",
        "blocked",
        "closed",
        "connection",
        "held",
        "id",
        "local_ended",
        "paused",
        "queued",
        "receiver",
        "remote_ended",
    )

    connection: "H2Connection"
    id: int
    receiver: Receiver | None
    local_ended: bool
    remote_ended: bool
    # Whether the final response head was sent, or came.
    answered: bool
    closed: bool
    paused: bool
    blocked: bool
    held: int
    # An upper bound of what libnghttp2 has queued: it is asked only when this has grown to
    # the high-water mark, that is once per so many bytes.
    queued: int

    @property
    def unread(self) -> bool:
        """Whether something was read on its connection that is not told yet."""
        return self.connection.unread

    def tell_later(self, waiting: TurnEnd) -> None:
        """Have `waiting.on_turn_end()` called again when all of that is told."""
        self.connection.tell_later(waiting)

    def send_data(self, data: bytes, end: bool) -> bool:
        """Body bytes; False asks to hold until `on_writable`."""
        if self.local_ended or self.closed:
            return True
        connection = self.connection
        try:
            connection.h2.send_data(self.id, data, end_stream=end)
        except H2Error:
            return True  # the stream is gone; its event is on the way
        if not connection.dirty:
            connection.turn.mark(connection)
        if end:
            self.local_ended = True
            if not self.remote_ended:
                connection.half_closed(self)
            return True
        self.queued = queued = self.queued + len(data)
        if queued < connection.high_water and not connection.write_paused:
            return True
        return not self._is_full()

    def send_trailers(self, trailers: Headers) -> None:
        """Trailer fields; they end our direction."""
        if self.local_ended or self.closed:
            return
        connection = self.connection
        fields = trailer_fields(trailers)
        try:
            if fields:
                connection.h2.send_trailers(self.id, fields)
            else:
                connection.h2.send_data(self.id, b"", end_stream=True)
        except H2Error:
            return
        if not connection.dirty:
            connection.turn.mark(connection)
        self.local_ended = True
        if not self.remote_ended:
            connection.half_closed(self)

    def pause(self) -> None:
        """Give the peer no more credit for this stream's body."""
        self.paused = True

    @property
    def may_get_data(self) -> bool:
        """Whether DATA may come now (RFC 9113 8.1)."""
        return True

    def resume(self) -> None:
        """Give it the credit that was held back, and go on."""
        self.paused = False
        if self.held:
            self.connection.release(self)

    def _is_full(self) -> bool:
        """Ask what is really queued; above the mark, wait for `on_writable`."""
        connection = self.connection
        # At this size nothing is gained by waiting for the end of the turn, and a
        # stream that the peer reads fast is not stopped for nothing.
        connection.write_now()
        self.queued = connection.h2.queued_body_size(self.id)
        if self.queued < connection.high_water and not connection.write_paused:
            return False
        connection.block(self)
        return True


class H2ServerStream(H2Stream):
    """The downstream side: a request came on it, a response goes out.

    Once the response is complete its receiver hears nothing more, even if the
    request has not ended: the client is told to stop sending (RFC 9113 8.1).
    A CONNECT is the exception.
    """

    __slots__ = ("tunnel",)

    protocol = "http2"
    connection: "H2ServerConnection"

    # One for each role: `super().__init__` would cost as much as all of these.
    def __init__(self, connection: "H2ServerConnection", stream_id: int, remote_ended: bool) -> None:
        self.connection = connection
        self.id = stream_id
        self.receiver = None
        self.remote_ended = remote_ended
        self.local_ended = self.answered = self.closed = self.paused = self.blocked = False
        self.tunnel = False  # a CONNECT: each direction ends for itself
        self.held = self.queued = 0

    @property
    def peer(self) -> str:
        """The client's address."""
        return self.connection.peer

    def send_head(self, head: ResponseHead, end: bool) -> None:
        """The final response head."""
        if self.closed or self.answered:
            return
        connection = self.connection
        self.answered = True
        try:
            connection.h2.send_response(self.id, head.fields or response_fields(head), end_stream=end)
        except H2Error:
            return  # cancelled in the meantime; its event is on the way
        if not connection.dirty:
            connection.turn.mark(connection)
        if end:
            self.local_ended = True
            if not self.remote_ended:
                connection.half_closed(self)

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx response. 101 does not exist here (RFC 9113 8.6)."""
        if self.closed or self.answered or head.status == 101:
            return
        connection = self.connection
        try:
            connection.h2.send_informational_response(self.id, head.fields or response_fields(head))
        except H2Error:
            return
        if not connection.dirty:
            connection.turn.mark(connection)

    def reset(self, failure: Failure) -> None:
        """RST_STREAM, unless the whole response is on its way already."""
        if not self.closed and (self.tunnel or not self.local_ended):
            self.connection.drop(self, reset_code(failure, self.answered))


class H2ClientStream(H2Stream):
    """The upstream side: a request goes out, a response comes. A stream has no
    number, and the peer does not know of it, until `send_head`."""

    __slots__ = ("followed", "interim")

    connection: "H2ClientConnection"
    interim: int  # 1xx heads that came; not set before the first, for nearly all streams have none

    def __init__(self, connection: "H2ClientConnection", receiver: Receiver) -> None:
        self.connection = connection
        self.id = 0
        self.receiver = receiver
        self.remote_ended = self.local_ended = self.answered = self.closed = self.paused = self.blocked = False
        self.followed = False  # more came right behind the head, and is told next
        self.held = self.queued = 0

    @property
    def trouble(self) -> str:
        """What was wrong with an answer last."""
        return self.connection.trouble

    @property
    def may_get_data(self) -> bool:
        """Behind the head of the answer."""
        return self.answered

    def send_head(self, head: RequestHead, end: bool) -> None:
        """The request head; it takes the next stream number."""
        if self.closed or self.id or self.local_ended:
            return
        self.local_ended = end
        connection = self.connection
        if connection.closed:
            connection.not_started(self)
            return
        try:
            self.id = connection.newest = stream_id = connection.h2.send_request(
                head.fields or request_fields(head), end_stream=end
            )
        except H2Error:
            connection.not_started(self)
            return
        connection.streams[stream_id] = self
        if not connection.dirty:
            connection.turn.mark(connection)

    def send_informational(self, head: ResponseHead) -> None:
        """Requests have none."""

    def reset(self, failure: Failure) -> None:
        """Give the request up: RST_STREAM, if the peer knows of it and has not ended."""
        if self.closed:
            return
        connection = self.connection
        if self.local_ended and self.remote_ended and not connection.h2.queued_body_size(self.id):
            return  # all was said; its close is on the way
        connection.drop(self, reset_code(failure, True))
