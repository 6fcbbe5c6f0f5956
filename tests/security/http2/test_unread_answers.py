"""A thousand large answers for which a client leaves no room hold little of our memory, however fast
their endpoint is."""

import asyncio
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.http2 import frames as f
from tests.security.http2.siege import memory
from tests.support.authority import Authority
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

MIB = 1024 * 1024
ANSWERS = 1000
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000)
INITIAL_WINDOW_SIZE = 4
CONFIG = """
admin: {bind: "127.0.0.1:0"}
clusters:
  web:
    endpoints: ["127.0.0.1:%d"]
    protocol: http1
    limits: {connections: 2000, requests: 2000}
    tls: %s
listeners: {in: {bind: "127.0.0.1:0", routes: [{to: web}]}}
"""
# Behind TLS an endpoint of Python is the slower one: it answers so many, smaller ones, while nobody reads.
TLS_ANSWERS = 300
TLS_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + bytes(300_000)


class Endpoint:
    """Says all at once: each answer when it is asked for, or all when `patience` were asked for."""

    def __init__(self, answer: bytes, patience: int = 1) -> None:
        self.answer = answer
        self.patience = patience
        self.asking: list[asyncio.Transport] = []
        self.asked = asyncio.Event()
        self.open: set[asyncio.Transport] = set()
        self.left = asyncio.Event()

    def ask(self, transport: asyncio.Transport) -> None:
        """A request has come."""
        self.asking.append(transport)
        if len(self.asking) < self.patience:
            return
        if self.patience == 1:
            self.say()
        self.asked.set()

    def say(self) -> None:
        """Answer who has asked."""
        asking, self.asking = self.asking, []
        for transport in asking:
            transport.write(self.answer)

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
            self.endpoint.ask(self.transport)

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
    endpoint = Endpoint(ANSWER)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=ANSWERS)
    async with server:
        # Given a sidecar that has answered, and a client whose windows are closed
        sidecar = await warm(processes, tmp_path, CONFIG % (server.sockets[0].getsockname()[1], "null"))
        before = memory(sidecar.pid)
        peer = await f.connect(sidecar.port("in"), (INITIAL_WINDOW_SIZE, 0))
        # When it asks for a thousand large answers, and has the head of each
        await peer.send(asks(ANSWERS))
        await heads(peer, ANSWERS)
        # Then they hold some tens of KiB each, and go on where there is a window
        grown = memory(sidecar.pid) - before
        assert grown < 50 * MIB, f"{grown / MIB:.1f} MiB"
        await peer.send(f.window_update(2 * ANSWERS - 1, 65_535))
        await peer.until(f.DATA, 2 * ANSWERS - 1)
        peer.close()
        await endpoint.leave()


@pytest.mark.usefixtures("many_files")
async def test_answers_behind_tls_are_read_no_faster(processes: Processes, tmp_path: Path) -> None:
    endpoint = Endpoint(ANSWER)
    loop = asyncio.get_running_loop()
    authority = Authority(tmp_path)
    shown = authority.issue("127.0.0.1").as_server(alpn=("http/1.1",))
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=TLS_ANSWERS, ssl=shown)
    async with server:
        # Given a sidecar that has answered, and a client whose windows are closed
        trusted = json.dumps({"ca": authority.path})
        sidecar = await warm(processes, tmp_path, CONFIG % (server.sockets[0].getsockname()[1], trusted))
        endpoint.answer, endpoint.patience = TLS_ANSWER, TLS_ANSWERS
        endpoint.asked.clear()
        peer = await f.connect(sidecar.port("in"), (INITIAL_WINDOW_SIZE, 0))
        # When it asks for many answers, of which each is there as a whole before any is read
        await peer.send(asks(TLS_ANSWERS))
        await endpoint.asked.wait()
        before = memory(sidecar.pid)  # with the connections, whose TLS holds more than an answer
        sidecar.signal(signal.SIGSTOP)
        endpoint.say()
        sidecar.signal(signal.SIGCONT)
        await heads(peer, TLS_ANSWERS)
        # Then they hold a few records of TLS each
        grown = memory(sidecar.pid) - before
        assert grown < TLS_ANSWERS * 128 * 1024, f"{grown / MIB:.1f} MiB"
        await peer.send(f.window_update(2 * TLS_ANSWERS - 1, 65_535))
        await peer.until(f.DATA, 2 * TLS_ANSWERS - 1)
        peer.close()
        await endpoint.leave()


async def warm(processes: Processes, folder: Path, config: str) -> SidecarProcess:
    """One that has done everything once."""
    sidecar = SidecarProcess(folder, config)
    processes.own(sidecar)
    await sidecar.serve()
    first = await f.connect(sidecar.port("in"))
    await first.send(f.headers(1, f.GET, end=True))
    await first.until(f.HEADERS)
    first.close()
    return sidecar


def asks(number: int) -> bytes:
    """Requests for so many answers."""
    return b"".join(f.headers(stream, f.GET, end=True) for stream in range(1, 2 * number, 2))


async def heads(peer: f.Peer, number: int) -> None:
    """All answers have begun, and what there was to be done is done."""
    while len(peer.of(f.HEADERS)) < number:
        assert await peer.read_frame() is not None
    assert await peer.alive()
