"""A load that does not wait for answers: so many requests a second, whatever becomes of them.

    async with OpenLoop("127.0.0.1", port, patience=1.0) as load:
        await load.run(rate=100, seconds=5)

A client of real traffic neither slows down because the service does, nor waits for ever: it
leaves, and perhaps asks again. `load.requests` says of each what came of it.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class Request:
    """One request of a user. `began` is when it was due (loop time); `statuses` has one
    entry for each try, 0 for a try without an answer. `error` is the last `x-sidecar-error`."""

    began: float
    priority: str = ""
    statuses: list[int] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def served(self) -> bool:
        """Whether the user got what it asked for, before its patience was over."""
        return bool(self.statuses) and self.statuses[-1] == 200


# On a machine where much else runs, a p99 below this says nothing, in seconds.
NOISE = 0.05


def p99(requests: Sequence[Request]) -> float:
    """Of their times, in seconds."""
    took = sorted(request.seconds for request in requests)
    return took[math.ceil(len(took) * 0.99) - 1]


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._buffer = b""

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, head: bytes) -> tuple[int, str]:
        """The status and the `x-sidecar-error`; ConnectionError when it is lost."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(head)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields.get(b"content-length", b"0")):
            return
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            error = fields.get(b"x-sidecar-error", b"").strip().decode()
            self._answer.set_result((int(head.split(b" ", 2)[1]), error))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())


class OpenLoop:
    """`patience` is how long a try may take, in seconds; `tries` how often a user asks, the
    first included, at once after a failure: the worst kind of user."""

    def __init__(self, host: str, port: int, *, patience: float, tries: int = 1) -> None:
        self.requests: list[Request] = []
        self._host, self._port = host, port
        self._patience, self._tries = patience, tries
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._open:
            if connection.transport is not None:
                connection.transport.abort()

    async def run(self, rate: float, seconds: float, priorities: Sequence[str] = ("",)) -> None:
        """Send for so long. Their answers may come later: see `settle`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(round(rate * seconds)):
            due = start + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            request = Request(due, priorities[number % len(priorities)])
            self.requests.append(request)
            task = asyncio.create_task(self._follow(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(max(0.0, start + seconds - loop.time()))

    async def settle(self) -> None:
        """Wait for what is under way: bounded by patience and tries."""
        await asyncio.gather(*self._tasks)

    def between(self, start: float, end: float) -> list[Request]:
        """The requests that were due in this part of the loop's time."""
        return [request for request in self.requests if start <= request.began < end]

    async def _follow(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        head = b"GET / HTTP/1.1\r\nhost: web\r\n"
        if request.priority:
            head += b"x-sidecar-priority: " + request.priority.encode() + b"\r\n"
        for _ in range(self._tries):
            status = 0
            connection: _Connection | None = None
            try:
                async with asyncio.timeout(self._patience):
                    connection = await self._connection()
                    status, request.error = await connection.ask(head + b"\r\n")
            except (TimeoutError, OSError):
                self._drop(connection)
            else:
                self._idle.append(connection)
            request.statuses.append(status)
            if status == 200:
                break
        request.seconds = loop.time() - request.began

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._open.discard(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        self._open.add(connection)
        return connection

    def _drop(self, connection: _Connection | None) -> None:
        if connection is not None:
            self._open.discard(connection)
            if connection.transport is not None:
                connection.transport.abort()
