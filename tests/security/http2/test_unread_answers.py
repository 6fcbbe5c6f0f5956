"""A thousand large answers for which a client leaves no room hold little of our memory, however fast
their endpoint is."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.http2 import frames as f
from tests.security.http2.siege import memory
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

MIB = 1024 * 1024
ANSWERS = 1000
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000)
LAST = 2 * ANSWERS - 1
INITIAL_WINDOW_SIZE = 4
CONFIG = """
admin: {bind: "127.0.0.1:0"}
clusters:
  web: {endpoints: ["127.0.0.1:%d"], protocol: http1, limits: {connections: 2000, requests: 2000}}
listeners: {in: {bind: "127.0.0.1:0", routes: [{to: web}]}}
"""


class Endpoint:
    """Says all at once."""

    def __init__(self) -> None:
        self.open: set[asyncio.Transport] = set()
        self.left = asyncio.Event()

    async def leave(self) -> None:
        """Cut every connection."""
        for transport in self.open:
            transport.abort()
        await self.left.wait()


class Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.endpoint.open.add(transport)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(ANSWER)

    def connection_lost(self, error: Exception | None) -> None:
        self.endpoint.open.discard(self.transport)
        if not self.endpoint.open:
            self.endpoint.left.set()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_answers_that_no_window_takes(processes: Processes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=ANSWERS)
    async with server:
        sidecar = SidecarProcess(tmp_path, CONFIG % server.sockets[0].getsockname()[1])
        processes.own(sidecar)
        await sidecar.serve()
        # Given a sidecar that has answered, and a client whose windows are closed
        first = await f.connect(sidecar.port("in"))
        await first.send(f.headers(1, f.GET, end=True))
        await first.until(f.HEADERS)
        first.close()
        before = memory(sidecar.pid)
        peer = await f.connect(sidecar.port("in"), (INITIAL_WINDOW_SIZE, 0))
        # When it asks for a thousand large answers, and has the head of each
        await peer.send(b"".join(f.headers(stream, f.GET, end=True) for stream in range(1, 2 * ANSWERS, 2)))
        while len(peer.of(f.HEADERS)) < ANSWERS:
            assert await peer.read_frame() is not None
        assert await peer.alive()
        # Then they hold some tens of KiB each, and go on where there is a window
        grown = memory(sidecar.pid) - before
        assert grown < 50 * MIB, f"{grown / MIB:.1f} MiB"
        await peer.send(f.window_update(LAST, 65_535))
        await peer.until(f.DATA, LAST)
        peer.close()
        await endpoint.leave()
