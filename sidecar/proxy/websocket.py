"""WebSockets (RFC 6455) on their way through: where a frame ends, so that a close frame of
ours can stand behind it when the process ends. Nothing else of a frame is looked at.
"""

import secrets
from typing import Any, Final

from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure

_CLOSE: Final = 0x8
_GOING_AWAY: Final = (1001).to_bytes(2)  # RFC 6455 7.4.1


class WebSocketStream:
    """A Stream around one that has become a WebSocket. `masked` says that frames go to a
    server (RFC 6455 5.3)."""

    __slots__ = ("_closed", "_head", "_inner", "_leaving", "_left", "_masked")

    def __init__(self, inner: Any, masked: bool) -> None:
        self._inner = inner
        self._masked = masked
        self._left = 0  # bytes of a frame that are still to come
        self._head = b""  # of a frame whose head came in part
        self._leaving = False
        self._closed = False  # a close frame was sent, by whomever

    def go_away(self) -> None:
        """Say 1001 as soon as no frame is in the way, and nothing afterwards. That the peers
        answer and close is up to them."""
        self._leaving = True
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        if self._closed or self._left or self._head:
            return
        self._closed = True
        if not self._masked:
            self._inner.send_data(bytes((0x80 | _CLOSE, 2)) + _GOING_AWAY, False)
            return
        key = secrets.token_bytes(4)
        payload = bytes(byte ^ mask for byte, mask in zip(_GOING_AWAY, key, strict=False))
        self._inner.send_data(bytes((0x80 | _CLOSE, 0x82)) + key + payload, False)

    def _follow(self, data: bytes) -> None:
        """Find the end of the last frame."""
        size = len(data)
        if self._left >= size:
            self._left -= size
            return
        position, self._left = self._left, 0
        if self._head:
            data, self._head = self._head + data, b""
            size = len(data)
        while position < size:
            end = _end_of_frame(data, position)
            if end < 0:
                self._head = data[position:]
                return
            if data[position] & 0xF == _CLOSE:
                self._closed = True
            position = end
        self._left = position - size

    # Stream.

    protocol = "http1"
    followed = unread = False
    trouble = ""

    @property
    def peer(self) -> Any:
        """The client, where there is one."""
        return self._inner.peer

    @property
    def receiver(self) -> Any:
        """Who hears of the stream."""
        return self._inner.receiver

    def send_head(self, head: Any, end: bool) -> None:
        """The head that makes it a WebSocket."""
        self._inner.send_head(head, end)

    def send_informational(self, head: ResponseHead) -> None:
        """There is none any more."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Frames, in pieces of any size."""
        if self._closed and self._leaving:
            return not end or bool(self._inner.send_data(b"", True))  # RFC 6455 5.5.1: nothing behind a close
        if data:
            self._follow(data)
        writable: bool = self._inner.send_data(data, end)
        if self._leaving and not end:
            self._say_goodbye()
        return writable

    def send_trailers(self, trailers: Headers) -> None:
        """The end."""
        self._inner.send_trailers(trailers)

    def pause(self) -> None:
        """Read no more."""
        self._inner.pause()

    def resume(self) -> None:
        """Read again."""
        self._inner.resume()

    def reset(self, failure: Failure) -> None:
        """Break it off."""
        self._inner.reset(failure)


def _end_of_frame(data: bytes, start: int) -> int:
    """Where the frame ends that starts there; -1 when its head is not all there (5.2)."""
    if len(data) < start + 2:
        return -1
    length = data[start + 1] & 0x7F
    end = start + 2
    if length > 125:
        end += 2 if length == 126 else 8
        if len(data) < end:
            return -1
        length = int.from_bytes(data[start + 2 : end])
    if data[start + 1] & 0x80:
        end += 4
    # Of a head that is cut off in its key the end is known all the same.
    return end + length
