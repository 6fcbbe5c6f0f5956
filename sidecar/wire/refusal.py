"""What a connection meets that there is no place for: a 503, and the end."""

import asyncio
from typing import Any

from sidecar.codec import h1
from sidecar.model.head import ResponseHead
from sidecar.model.outcome import Failure
from sidecar.proxy.reply import http_reply
from sidecar.proxy.runtime import Runtime
from sidecar.wire.sniff import kind_of

# How long the client may take to say something, and then to send the rest. Each second
# costs a file of which there are few.
_SECONDS = 1.0
_LINGER_SECONDS = 0.25
_LONGEST = 1 << 20

# Which limit it was that there is no place for one more client.
_WHICH = {
    "ceiling": "clients at one time, by overload.max_connections or the limit on open files",
    "listener": "clients at one time, by max_connections of the listener",
}


class Refusal(asyncio.Protocol):
    """Answers the first bytes of HTTP/1 with a 503 and closes.

    An HTTP/2 client is closed without a word, and so is one that speaks TLS, which would
    cost a handshake: gRPC waits longer and longer after a connection that failed, and would
    come again at once after one that was opened and ended by a GOAWAY.
    """

    __slots__ = ("_answered", "_dropped", "_reason", "_runtime", "_token", "_transport", "_wordless")

    def __init__(self, runtime: Runtime, reason: str, wordless: bool = False) -> None:
        self._runtime = runtime
        self._reason = reason
        self._wordless = wordless
        self._transport: Any = None
        self._answered = False
        self._dropped = 0
        self._token = 0
        runtime.places.refuse(reason)

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._transport = transport
        if self._wordless:
            transport.abort()
        else:
            self._token = self._runtime.timers.add(_SECONDS, self)

    def data_received(self, data: bytes) -> None:
        """The first bytes tell how to say it; the others are dropped, so that the close
        does not destroy the answer in the client's buffer (RFC 9112 9.6)."""
        transport = self._transport
        self._dropped += len(data)
        if self._answered:
            if self._dropped > _LONGEST:
                transport.abort()
            return
        self._answered = True
        if kind_of(data) != "http1":
            transport.abort()
            return
        transport.write(_answer(self._reason, data.startswith(b"HEAD ")))
        if data.endswith(b"\r\n\r\n"):
            transport.close()  # that was all, most likely
            return
        transport.write_eof()
        timers = self._runtime.timers
        timers.cancel(self._token)
        self._token = timers.add(_LINGER_SECONDS, self)

    def on_timer(self, token: int) -> None:
        """It had its time."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone, and its file is free."""
        self._transport = None
        self._runtime.timers.cancel(self._token)
        self._runtime.places.refusing_ended()


def _answer(reason: str, bodyless: bool) -> bytes:
    head, body = http_reply(Failure.PRESSURE, "", 0, [], _WHICH.get(reason, ""))
    data = h1.encode_response(ResponseHead(head.status, head.headers, len(body)), False, False, b"close")[0]
    return data if bodyless else data + body
