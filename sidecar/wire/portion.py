"""Reading little of an endpoint at one time.

An answer that its client does not take holds what came in one read: in 256 KiB, as uvloop
reads, a thousand such answers hold 250 MiB. So while a client has many answers waiting, what
is read for it is read in small pieces. Only then: where to read to is asked for each time,
which is 3 % of the CPU of an HTTP/1.1 request.
"""

import asyncio
from typing import Any, Final

from sidecar.proxy.runtime import Runtime

# So many answers of one connection that wait for their client are a crowd; from then on each
# of them may have so many bytes waiting.
CROWD: Final = 32
CROWDED_WATER: Final = 8 * 1024

# Bytes are copied out of it before anything else is read: one serves all connections.
_BUFFER: Final = memoryview(bytearray(256 * 1024))
_SMALL: Final = _BUFFER[: 8 * 1024]


class InPortions(asyncio.BufferedProtocol):
    """In a connection's place as the protocol of its transport: tells it everything, with
    small reads as long as there is a crowd."""

    __slots__ = ("_connection", "_runtime")

    def __init__(self, connection: Any, runtime: Runtime) -> None:
        self._connection = connection
        self._runtime = runtime

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes."""
        return _SMALL if self._runtime.crowds else _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self._connection.data_received(bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool | None:
        """The peer has said all."""
        keep: bool | None = self._connection.eof_received()
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._connection.resume_writing()


def read_in_portions(transport: Any, connection: Any, runtime: Runtime, paused: bool) -> None:
    """From now on read in small pieces while there is a crowd. `connection` is the transport's
    protocol; `paused` tells whether it reads nothing now."""
    if not paused:
        transport.pause_reading()  # a transport looks at its protocol when reading begins
    transport.set_protocol(InPortions(connection, runtime))
    if not paused:
        transport.resume_reading()
