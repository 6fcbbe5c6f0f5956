"""An upstream that keeps every byte that reaches it, and a plain pipe to put in the sidecar's place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h11

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
BAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbad"


class Recording(asyncio.Protocol):
    """One connection: `data` is what came, `requests` how many whole requests were answered."""

    def __init__(self, recorder: "Recorder") -> None:
        self.recorder = recorder
        self.data = b""
        self.requests = 0
        self.closed = asyncio.Event()
        self._parser = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection."""
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self.recorder.connections.append(self)

    def data_received(self, data: bytes) -> None:
        """Bytes are kept first, whatever becomes of them."""
        self.data += data
        self.recorder.changed.set()
        try:
            self._parser.receive_data(data)
            while self._answer():
                pass
        except h11.ProtocolError:
            self.transport.write(BAD)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self.closed.set()

    def _answer(self) -> bool:
        event = self._parser.next_event()
        if isinstance(event, h11.Request):
            self._head = event
        elif isinstance(event, h11.EndOfMessage):
            assert self._head is not None
            self.requests += 1
            answer = LAST if self.recorder.closing else OK
            self.transport.write(answer[:-2] if self._head.method == b"HEAD" else answer)
            if self.recorder.closing:
                self.transport.close()
                return False
            self._parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            self._parser.send(h11.EndOfMessage())
            if self._parser.our_state is h11.MUST_CLOSE:
                self.transport.close()
                return False
            self._parser.start_next_cycle()
        return event is not h11.NEED_DATA and event is not h11.PAUSED and not isinstance(event, h11.ConnectionClosed)


class Recorder:
    """Answers 200 to every request. `closing`: and ends the connection behind it."""

    def __init__(self) -> None:
        self.connections: list[Recording] = []
        self.closing = False
        self.port = 0
        self.changed = asyncio.Event()

    @property
    def received(self) -> bytes:
        """Everything that came, over whichever connection."""
        return b"".join(connection.data for connection in self.connections)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait until what came makes it so."""
        async with asyncio.timeout(10):
            while not ready():
                self.changed.clear()
                await self.changed.wait()

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return sum(connection.requests for connection in self.connections)


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    """A recorder on a free port."""
    recorder = Recorder()
    server = await asyncio.get_running_loop().create_server(lambda: Recording(recorder), "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        for connection in recorder.connections:
            connection.transport.abort()


@asynccontextmanager
async def piped(port: int) -> AsyncIterator[int]:
    """A pipe to `port` that reads nothing of what it carries; the port where it listens."""
    ends: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.add(asyncio.current_task())  # type: ignore[arg-type]
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(relay(reader, upstream_writer), relay(upstream_reader, writer))
        upstream_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*ends, return_exceptions=True)
