"""The answers of one HTTP/1 connection: what the exchange sends, as bytes in order."""

from sidecar.codec import h1
from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers, get
from sidecar.policy.pace import Pace
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h1_pipeline import Pipelined
from sidecar.wire.last_words import reset_behind
from sidecar.wire.output import JOIN_BELOW, write_all

# The rest of an answered request that is read and dropped to keep its connection.
_DISCARD_BYTES = 64 * 1024


class Answering(Pipelined):
    """The Stream of the message pair that is under way."""

    __slots__ = (
        "_awaiting_send",
        "_bodyless",
        "_chunked",
        "_connecting",
        "_discarding",
        "_http11",
        "_ordinary",
        "_out",
        "_unframed",
        "_upgrade_asked",
        "dirty",
        "draining",
    )

    def __init__(self, runtime: Runtime, pace: Pace) -> None:
        super().__init__(runtime, pace)
        self.dirty = False
        self.draining = False
        self._out: list[bytes] = []
        self._http11 = True
        self._chunked = False
        self._bodyless = False
        self._upgrade_asked = False
        self._connecting = False
        self._awaiting_send = False
        self._discarding = False
        self._ordinary = False
        self._unframed = False  # only the end of the connection ends the body

    def _response_ended(self) -> None:
        raise NotImplementedError

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx response; HTTP/1.0 clients know none (RFC 9110 15.2)."""
        if self._http11 and not self._response_started and self._waiting:
            self._write(h1.encode_response(head, True, False, b"")[0])

    def send_head(self, head: ResponseHead, end: bool) -> None:
        """The response head; chunked when its length is not known."""
        if not self._waiting:
            return
        self._response_started = True
        connection = b""
        if self._ordinary and head.length is not None and head.status != 101:
            pass  # nothing about this message asks for more than its head says
        elif head.status == 101:
            connection = b"upgrade"
            self._tunnel = True
        elif self._connecting and head.status < 300:
            self._tunnel = True
        else:
            if not end and (head.status == 204 or head.status == 304):
                self._bodyless = True  # HTTP/2 may tell the end of these apart from their head
            if not self._request_ended and not self._upgrade_asked and not self._may_discard():
                self._close_after = True
            if self.draining:
                self._close_after = True
            if not end and head.length is None and not self._http11 and not self._bodyless:
                self._close_after = self._unframed = True
            connection = b"close" if self._close_after else b"" if self._http11 else b"keep-alive"
        if self._bodyless and head.length is None:
            head = ResponseHead(head.status, head.headers, 0)
        chunkable = self._http11 and not self._tunnel and not self._bodyless
        data, self._chunked = h1.encode_response(head, end, chunkable, connection)
        self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)
        if self._tunnel:
            self._decoder.upgraded()
        if end:
            self._response_ended()

    def send_data(self, data: bytes, end: bool) -> bool:
        """Body bytes of the response, or tunnelled ones."""
        if not self._waiting:
            return True
        if self._chunked:
            if data:
                self._out.append(b"%x\r\n" % len(data))
                self._out.append(data)
                self._out.append(b"\r\n0\r\n\r\n" if end else b"\r\n")
            elif end:
                self._out.append(b"0\r\n\r\n")
        elif data and not self._bodyless:
            self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)
        if end:
            self._response_ended()
        return not self.write_paused

    def send_trailers(self, trailers: Headers) -> None:
        """Trailers end the body; without chunks there is no place for them."""
        if not self._waiting:
            return
        if self._chunked:
            self._write(h1.encode_trailers(trailers))
        self._response_ended()

    def _may_discard(self) -> bool:
        """Whether a request that is answered before its end leaves so little that it is
        read and dropped. After `Expect: 100-continue` nobody knows what comes next, the
        body or another request (RFC 9110 10.1.1)."""
        self._discarding = (
            0 <= self._decoder.body_left <= _DISCARD_BYTES
            and self._head is not None
            and get(self._head.headers, b"expect") is None
        )
        return self._discarding

    # Output.

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)

    def flush(self) -> None:
        """Write what this turn produced."""
        out = self._out
        if out and self.transport is not None:
            self._out = []
            if len(out) == 2 and len(out[1]) < JOIN_BELOW:
                self.transport.write(out[0] + out[1])  # a head and a small body
            else:
                write_all(self.transport, out)
        if self._awaiting_send:
            self._awaiting_send = False
            self._finish_writing()

    def _flush_out(self) -> None:
        out, self._out = self._out, []
        if out and self.transport is not None:
            write_all(self.transport, out)

    def _finish_writing(self) -> None:
        """Close, or first drop what the client is still sending."""
        if self.transport is None:
            return
        self._flush_out()
        if self._tunnel and not self._request_ended:
            self.transport.write_eof()
        elif self._lingering:
            self._wait_no_more()
            self.transport.resume_reading()
            self.transport.write_eof()
            self._linger()
        else:
            self.transport.close()

    def _break_off(self) -> None:
        self._flush_out()
        if self._tunnel or self._unframed:
            # A mere close would look like the body's own end.
            reset_behind(self.transport, self.runtime.timers)
        else:
            # What came before the break still goes out; the framing shows that more is missing.
            self._lingering = True
            self._linger()
            self.transport.close()
