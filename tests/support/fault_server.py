"""A server that breaks at chosen moments, over HTTP/1.1 and HTTP/2 on one port.

A *step* is a coroutine function that plays one request; `tests.support.faults`
has the usual ones. The k-th request that arrives, over whatever connection and
version, gets the k-th step, and those after the last step get `then`:

    async with FaultServer(faults.commit_then_reset, then=faults.ok) as server:
        ...  # send something to server.address
    assert [request.method for request in server.requests] == ["POST"]

`requests` holds what was read wholly, in order: a request that is in there twice
was executed twice. What goes wrong in a step, or what the peer does against the
protocol, is raised at the end of the `async with`.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import Any, Protocol

Fields = list[tuple[bytes, bytes]]


class PeerGoneError(ConnectionError):
    """The peer closed or cancelled while a step was at work: a step's normal end."""


@dataclass
class Request:
    """A request as it was read. `stream` is 0 over HTTP/1.1."""

    method: str
    path: str
    authority: str
    headers: Fields
    connection: int
    stream: int = 0
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The first value of a field, by its lower-case name."""
        for key, value in self.headers:
            if key == name.encode():
                return value.decode("latin-1")
        return None


class Exchange(Protocol):
    """What a step does with its request; the same over both versions."""

    server: "FaultServer"
    connection: "Connection"
    closing: bool

    async def head(self) -> Request:
        """Wait for the request's head. It does not count as executed."""

    async def request(self) -> Request:
        """Wait for the whole request: from now on it counts as executed."""

    async def send_head(self, status: int = 200, headers: Fields | None = None, length: int | None = None) -> None:
        """The response's head; `length` None for a body of unknown length."""

    async def send_data(self, data: bytes, end: bool = False) -> None:
        """A piece of the body, as one chunk or DATA frame where it fits."""

    async def send_trailers(self, trailers: Fields) -> None:
        """Trailers; they end the response."""

    def abandon(self, code: int) -> None:
        """Give up this exchange alone: RST_STREAM with the code; over HTTP/1.1 the connection is reset."""


Step = Callable[[Exchange], Awaitable[None]]
Accept = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One accepted connection: buffered bytes, and the ways to end it."""

    def __init__(self, server: "FaultServer", number: int, reader: asyncio.StreamReader, writer: Any) -> None:
        self.server = server
        self.number = number
        self.writer: asyncio.StreamWriter = writer
        self.buffer = bytearray()
        self.requests = 0
        self.ended = False  # by the peer
        self._reader = reader

    async def fill(self, within: float | None = None) -> bool:
        """Read once more into `buffer`; False at the end. TimeoutError after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        self.buffer += data
        self.ended = not data
        return bool(data)

    async def need(self, ready: Callable[[], bool]) -> None:
        """Fill until `ready`; PeerGoneError when the peer ends before."""
        while not ready():
            if not await self.fill():
                raise PeerGoneError("the peer closed")

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def flush(self) -> None:
        """Wait until the peer takes what was written; PeerGoneError when it is gone."""
        try:
            await self.writer.drain()
        except ConnectionError as error:
            raise PeerGoneError(str(error)) from error

    def reset(self) -> None:
        """End it by a TCP RST: SO_LINGER with no time to linger."""
        raw = self.writer.get_extra_info("socket")
        if raw is not None and not self.writer.transport.is_closing():
            raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """End it by a FIN, after what was written."""
        self.writer.close()

    def half_close(self) -> None:
        """FIN in our direction; we can go on reading."""
        self.writer.write_eof()

    @property
    def closed(self) -> bool:
        """Whether we ended it."""
        return self.writer.transport.is_closing()

    async def stall(self) -> None:
        """Say nothing until the peer goes; what it sends is thrown away."""
        while await self.fill():
            self.buffer.clear()
        raise PeerGoneError("the peer closed")


class FaultServer:
    """See the module. `accepts` play whole connections, by the order in which they come; None for the
    usual. `idle_timeout` in seconds closes an HTTP/1.1 connection between requests. `settings` are the
    HTTP/2 SETTINGS to announce, by their code."""

    def __init__(
        self,
        *steps: Step,
        then: Step | None = None,
        accepts: tuple[Accept | None, ...] = (),
        port: int = 0,
        idle_timeout: float | None = None,
        settings: Mapping[int, int] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        from tests.support.faults import ok

        self.steps = list(steps)
        self.then = then or ok
        self.accepts = accepts
        self.port = port
        self.idle_timeout = idle_timeout
        self.settings = dict(settings or {})
        self.requests: list[Request] = []
        # Heads seen, whether or not the rest came.
        self.heads: list[Request] = []
        self.connections: list[Connection] = []
        # Steps whose peer went away before they were through.
        self.deserted = 0
        self.errors: list[BaseException] = []
        self._tls = tls
        self._played = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Condition()
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """`host:port`, as a cluster's `endpoints` take it."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> "FaultServer":
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.stop()
        if kind is None and self.errors:
            raise self.errors[0]

    async def stop(self) -> None:
        """Close the port and reset every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        for connection in self.connections:
            connection.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, true: Callable[["FaultServer"], bool], within: float = 10.0) -> None:
        """Wait until something holds, asked at every head, request, connection and end of a step."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(lambda: true(self))

    def close_connections(self) -> None:
        """FIN on every connection, as a server does whose idle timeout is over."""
        for connection in self.connections:
            connection.close()

    @property
    def open_connections(self) -> int:
        """How many connections were not ended yet by either side."""
        return sum(not connection.closed for connection in self.connections)

    def next_step(self) -> Step:
        """The step for the request that arrives now."""
        step = self.steps[self._played] if self._played < len(self.steps) else self.then
        self._played += 1
        return step

    async def play(self, exchange: Exchange, step: Step) -> None:
        """Run one step to its end, whatever it is."""
        try:
            await step(exchange)
        except PeerGoneError:
            self.deserted += 1
        except Exception as error:
            self.errors.append(error)
            exchange.connection.reset()
        await self.tell()

    def spawn(self, work: Any) -> "asyncio.Task[None]":
        """A task that ends with the server."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def tell(self) -> None:
        """Wake those in `until`."""
        async with self._changed:
            self._changed.notify_all()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, len(self.connections), reader, writer)
        self.connections.append(connection)
        self.spawn(self._serve(connection))

    async def _serve(self, connection: Connection) -> None:
        await self.tell()
        number = connection.number
        accept = self.accepts[number] if number < len(self.accepts) else None
        try:
            await (accept or serve)(connection)
        except (ConnectionError, TimeoutError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            if not connection.closed:
                connection.close()
        await self.tell()


async def serve(connection: Connection) -> None:
    """The usual play of a connection: HTTP/2 if it begins with the preface (RFC 9113 3.4), else HTTP/1.1."""
    from tests.support.fault_h1 import serve_h1
    from tests.support.fault_h2 import PREFACE, serve_h2

    def told() -> bool:
        return not PREFACE.startswith(connection.buffer) or len(connection.buffer) >= len(PREFACE)

    await connection.need(lambda: bool(connection.buffer) and told())
    await (serve_h2 if connection.buffer.startswith(PREFACE) else serve_h1)(connection)


@asynccontextmanager
async def refusing_port() -> AsyncIterator[int]:
    """A port that is held, so that nobody takes it, and refuses every connection."""
    with socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port whose handshakes never finish: its queue of one is full (Linux drops the SYN then)."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket() as filler:
            filler.connect(address)
            yield address[1]
