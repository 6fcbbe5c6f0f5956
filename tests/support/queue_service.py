"""A service with a queue, as a process of its own: what overload is made of.

    python -m tests.support.queue_service --port 0 --workers 2 --milliseconds 40

Any GET waits for a worker, first come, first served, and is worked on for so long, whether
its client is still there or not. `GET /mode/MODE` changes at once what follows:

- `ok`: works, then 200
- `refuse`: 503 at once
- `reset`: closes the connection
- `slow`: works twenty times as long, then 200; what is being worked on is finished first
- `broken`: works, then 503

`GET /stats` is {"received": requests, "served": 200s, "queued": waiting now}.
"""

import argparse
import asyncio
import json
from collections import deque

from tests.support.processes import announce

_SLOWER = 20
MODES = ("ok", "refuse", "reset", "slow", "broken")


class QueueService:
    """What the connections share."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.seconds = seconds
        self.mode = "ok"
        self.received = 0
        self.served = 0
        self._idle = workers
        self._queue: deque[Connection] = deque()

    def take(self, connection: "Connection") -> None:
        """A request."""
        self.received += 1
        if self.mode == "refuse":
            connection.answer(503)
        elif self.mode == "reset":
            connection.transport.abort()
        else:
            self._queue.append(connection)
            self._work()

    def stats(self) -> bytes:
        """How much there was."""
        return json.dumps({"received": self.received, "served": self.served, "queued": len(self._queue)}).encode()

    def _work(self) -> None:
        while self._idle and self._queue:
            self._idle -= 1
            slower = _SLOWER if self.mode == "slow" else 1
            loop = asyncio.get_running_loop()
            loop.call_later(self.seconds * slower, self._done, self._queue.popleft())

    def _done(self, connection: "Connection") -> None:
        self._idle += 1
        works = self.mode in ("ok", "slow")
        self.served += works
        connection.answer(200 if works else 503)
        self._work()


class Connection(asyncio.Protocol):
    """One client: a request at a time, kept alive."""

    transport: asyncio.Transport

    def __init__(self, service: QueueService) -> None:
        self._service = service
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            path = head.split(b" ", 2)[1].decode()
            if path == "/stats":
                self.answer(200, self._service.stats())
            elif path.startswith("/mode/"):
                mode = path.removeprefix("/mode/")
                assert mode in MODES, mode
                self._service.mode = mode
                self.answer(200)
            else:
                self._service.take(self)

    def answer(self, status: int, body: bytes = b"ok") -> None:
        """Answer the request that was read last, if anybody is left to hear it."""
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %d -\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))


async def _serve(port: int, workers: int, seconds: float) -> None:
    service = QueueService(workers, seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", port, backlog=4096)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--milliseconds", type=float, default=40.0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.workers, arguments.milliseconds / 1000))
