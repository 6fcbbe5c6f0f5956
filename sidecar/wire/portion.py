"""Reading little at one time.

A body that its taker does not take holds what came in one read: in 256 KiB, as uvloop reads,
a thousand of them hold 250 MiB. So while many wait (policy/crowd.py), what is read is read in
portions. Only then: where to read to is asked for each time, which is 3 % of the CPU of an
HTTP/1.1 request.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from sidecar.policy.crowd import WHOLE
from sidecar.proxy.runtime import Runtime

# Bytes are copied out of it before anything else is read: one serves all connections.
_BUFFER: Final = memoryview(bytearray(WHOLE))


class InPortions(asyncio.BufferedProtocol):
    """In a connection's place as the protocol of its transport: tells it everything, with
    small reads."""

    __slots__ = ("_runtime", "connection")

    def __init__(self, connection: Any, runtime: Runtime) -> None:
        self.connection = connection
        self._runtime = runtime

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes."""
        return _BUFFER[: self._runtime.crowd.portion]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        runtime = self._runtime
        if nbytes == runtime.crowd.portion:
            # There is more, and up to 32 reads follow each other: whether it is taken shows in writing.
            runtime.turn.bulky = True
        self.connection.data_received(bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool | None:
        """The peer has said all."""
        keep: bool | None = self.connection.eof_received()
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.connection.resume_writing()


def adapt_reading(transport: Any, connection: Any, runtime: Runtime, paused: bool) -> None:
    """Read in portions from now on, or as ever, by whether there is a crowd. `connection` is who
    hears of what is read; `paused` tells whether nothing is read now."""
    if hasattr(transport, "adapt_to_crowd"):  # TLS, which has the transport
        transport.adapt_to_crowd(paused)
        return
    crowded = runtime.crowd.is_one
    if transport.is_closing() or crowded is isinstance(transport.get_protocol(), InPortions):
        return
    if not paused:
        transport.pause_reading()  # a transport looks at its protocol when reading begins
    transport.set_protocol(InPortions(connection, runtime) if crowded else connection)
    if not paused:
        transport.resume_reading()


def adapt_all(connections: Iterable[Any]) -> None:
    """Those that are there. What HTTP/2 brings is bounded by its windows."""
    for connection in connections:
        adapt = getattr(connection, "adapt_to_crowd", None)
        if adapt is not None:
            adapt()


def succeed(transport: Any, successor: Any) -> None:
    """Make `successor` the protocol of a transport, which is read as before."""
    protocol = transport.get_protocol()
    if isinstance(protocol, InPortions):
        protocol.connection = successor
    else:
        transport.set_protocol(successor)
