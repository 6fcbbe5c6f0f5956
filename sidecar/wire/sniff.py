"""Which protocol a new connection speaks, told by its first bytes."""

import asyncio
from collections.abc import Callable
from typing import Any

from sidecar.proxy.runtime import Runtime
from sidecar.wire.portion import adapt_reading, succeed

# RFC 9113 3.4: the first three bytes of the preface are no HTTP/1 method that
# anybody uses, and no TLS record.
_PREFACE = b"PRI"
_TLS_HANDSHAKE = b"\x16\x03"

Choose = Callable[[str], asyncio.Protocol]


def kind_of(data: bytes) -> str | None:
    """ "http2", "tls" or "http1"; None while too little is known."""
    for prefix, kind in ((_PREFACE, "http2"), (_TLS_HANDSHAKE, "tls")):
        if data.startswith(prefix):
            return kind
        if prefix.startswith(data):
            return None
    return "http1"


class Sniffer(asyncio.Protocol):
    """Reads until the protocol is known, then `choose(kind)` makes its successor."""

    __slots__ = (
        "_choose",
        "_data",
        "_first",
        "_on_closed",
        "_runtime",
        "_token",
        "draining",
        "idle_since",
        "transport",
    )

    def __init__(self, runtime: Runtime, choose: Choose, on_closed: Callable[[Any], None], first: float) -> None:
        self._runtime = runtime
        self._choose = choose
        self._on_closed = on_closed
        self._data = b""
        self._token = 0
        self._first = first
        self.idle_since = 0.0
        self.draining = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected; it has a bounded time to say something."""
        self.transport = transport
        self.idle_since = self._runtime.clock()
        if self._first:
            self._token = self._runtime.timers.add(self._first, self)
        if self._runtime.crowd.is_one:
            self.adapt_to_crowd()

    def adapt_to_crowd(self) -> None:
        """Read in portions while there is a crowd, else as ever."""
        if self.transport is not None:
            adapt_reading(self.transport, self, self._runtime, False)

    def data_received(self, data: bytes) -> None:
        """The first bytes, perhaps in parts."""
        self._data += data
        kind = kind_of(self._data)
        if kind is None:
            return
        turn = self._runtime.turn
        turn.begin()
        try:
            self._runtime.timers.cancel(self._token)
            transport, self.transport = self.transport, None
            successor = self._choose(kind)
            succeed(transport, successor)
            successor.connection_made(transport)
            successor.data_received(self._data)
            self._on_closed(self)
        finally:
            turn.end()

    def connection_lost(self, error: Exception | None) -> None:
        """The client left without a word."""
        self._runtime.timers.cancel(self._token)
        self._on_closed(self)

    def on_timer(self, token: int) -> None:
        """Nothing came, or the beginning of something."""
        if self.transport is not None:
            if self._data:
                self._runtime.too_slow("header")
            self.transport.abort()

    @property
    def open_streams(self) -> int:
        """Nothing is under way."""
        return 0

    def drain(self) -> None:
        """Nothing to finish. A first request may be under way to us, so it stays open:
        its successor will be drained."""
        self.draining = True

    def close_idle(self) -> None:
        """Nothing was said in all this time."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
