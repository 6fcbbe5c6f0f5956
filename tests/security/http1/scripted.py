"""A server that answers its first request with any bytes, and the others as it should."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from tests.security.http1.recorder import OK

WITHIN: Final = 10.0


class Script(NamedTuple):
    """`answer` goes out when a head came, `later` when `Scripted.go_on` is called; then the
    connection is ended if `ends`."""

    answer: bytes
    later: bytes = b""
    ends: bool = False


class Connection(asyncio.Protocol):
    """One connection; `data` is what came."""

    def __init__(self, server: "Scripted") -> None:
        self.server = server
        self.data = b""
        self.answered = 0
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.server.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.server.changed.set()
        while self.data.count(b"\r\n\r\n") > self.answered:
            self.answered += 1
            self.server.play(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()


class Scripted:
    """`script` plays once, for the first request of whichever connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections: list[Connection] = []
        self.port = 0
        self.changed = asyncio.Event()
        self._first: Iterator[Script] = iter([script])

    def play(self, connection: Connection) -> None:
        """Answer a request."""
        script = next(self._first, Script(OK))
        connection.transport.write(script.answer)
        if script.ends and not script.later:
            connection.transport.close()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait until what came makes it so."""
        async with asyncio.timeout(WITHIN):
            while not ready():
                self.changed.clear()
                await self.changed.wait()

    def go_on(self) -> None:
        """What comes later, over the first connection."""
        connection = self.connections[0]
        connection.transport.write(self.script.later)
        if self.script.ends:
            connection.transport.close()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    """One on a free port."""
    scripted = Scripted(script)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(scripted), "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for connection in scripted.connections:
            connection.transport.abort()
