"""Bounds on the admin server's clients: how many, how long they may take to ask and to
read. It shares its process with the requests; whoever holds a connection here without
using it must not cost them files or memory."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sidecar.wire.peer import reset_connection

MOST_CONNECTIONS: Final = 128
_HEAD_SECONDS: Final = 10.0
_READ_SECONDS: Final = 30.0


class Guard:
    """Makes connections around those of `make`; a factory of protocols itself.

    `head_seconds` bounds the wait for a first request, `read_seconds` how long a client
    may leave an answer unread.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        most: int = MOST_CONNECTIONS,
        head_seconds: float = _HEAD_SECONDS,
        read_seconds: float = _READ_SECONDS,
    ) -> None:
        self.head_seconds = head_seconds
        self.read_seconds = read_seconds
        self._make = make
        self._most = most
        # By the protocol inside, which a request knows; the oldest first.
        self._open: dict[Any, _Guarded] = {}

    def __call__(self) -> asyncio.Protocol:
        """A connection's protocol."""
        return _Guarded(self, self._make())

    @contextmanager
    def busy(self, protocol: Any) -> Iterator[None]:
        """While a request of this connection is answered."""
        connection = self._open.get(protocol)
        if connection is None:
            yield
            return
        connection.asked()
        connection.busy += 1
        try:
            yield
        finally:
            connection.busy -= 1

    def opened(self, inner: Any, connection: "_Guarded") -> bool:
        """Take a connection in, at the cost of the oldest that nothing is asked on; False
        when every one is at work."""
        if len(self._open) >= self._most:
            idle = next((each for each in self._open.values() if not each.busy), None)
            if idle is None:
                return False
            idle.abort()
        self._open[inner] = connection
        return True

    def closed(self, inner: Any) -> None:
        """It is gone."""
        self._open.pop(inner, None)


class _Guarded(asyncio.Protocol):
    """One connection: passes everything on, and keeps the time."""

    __slots__ = ("_guard", "_inner", "_refused", "_timer", "_transport", "busy")

    def __init__(self, guard: Guard, inner: Any) -> None:
        self._guard = guard
        self._inner = inner
        self._refused = False
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self.busy = 0

    def connection_made(self, transport: Any) -> None:
        """A client, that has to ask for something soon."""
        self._transport = transport
        if not self._guard.opened(self._inner, self):
            self._refused = True
            transport.abort()
            return
        self._arm(self._guard.head_seconds)
        self._inner.connection_made(transport)

    def asked(self) -> None:
        """There is a request: from here on aiohttp bounds the wait for the next one."""
        self._disarm()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._inner.data_received(data)

    def eof_received(self) -> Any:
        return None if self._refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._arm(self._guard.read_seconds)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._disarm()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        if not self._refused:
            self._guard.closed(self._inner)
            self._inner.connection_lost(error)

    def abort(self) -> None:
        """End it at once: a close would leave the kernel with what the client does not read."""
        self._guard.closed(self._inner)
        reset_connection(self._transport)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
