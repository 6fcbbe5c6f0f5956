"""Hundreds of HTTP/1.1 clients whose answers nobody takes, or whose uploads: they hold little of our
memory, others are served beside them, and not a byte is lost when they go on."""

import asyncio
import hashlib
import io
import random
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from sidecar.overload.memory import resident
from tests.chaos.watching import metrics
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

MIB = 1 << 20
CLIENTS = 150
# More than the buffers of the kernel take of it; not less, for what it has to drop of a segment of
# 64 KiB it sends again later and later.
BUFFER = 64 * 1024
SIZE = 5 * MIB
PIECE = 64 * 1024
MOST = 45 * MIB  # they held 70 to 100
WITHIN = 40.0
BODY = random.Random(9).randbytes(SIZE)
DIGEST = hashlib.sha256(BODY).hexdigest()
CONFIG = """
admin: {bind: "127.0.0.1:0"}
clusters:
  web:
    listen: 127.0.0.1:0
    endpoints: ["127.0.0.1:%d"]
    limits: {connections: 2000, requests: 2000}
    timeouts: {request: 2m}
    retry: {replay: 16KiB}
"""


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Endpoint:
    """GET has the body, POST its digest; a POST to /later is not read before `go_on`. `asked`: by all
    clients, since it was cleared."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self._asking = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """At this port."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        server = await asyncio.start_server(accept, sock=listening, backlog=CLIENTS)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b" /later " in head:
                    self._asking += 1
                    if self._asking == CLIENTS:
                        self.asked.set()
                if head.startswith(b"get"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
                    for start in range(0, SIZE, PIECE):
                        writer.write(BODY[start : start + PIECE])
                        await writer.drain()
                    continue
                if b" /later " in head:
                    await self.go_on.wait()
                digest = hashlib.sha256()
                for start in range(0, SIZE, PIECE):
                    digest.update(await reader.readexactly(min(PIECE, SIZE - start)))
                said = digest.hexdigest().encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Client:
    """One connection, with a small buffer of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        await self.loop.sock_connect(self.socket, ("127.0.0.1", self.port))
        await self.loop.sock_sendall(self.socket, data)

    async def body(self) -> bytes:
        """Of its answer, by its length."""
        reader, writer = await asyncio.open_connection(sock=self.socket)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        body = await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()
        return body


async def warm(processes: Processes, folder: Path, port: int) -> SidecarProcess:
    """One that has done everything once."""
    sidecar = SidecarProcess(folder, CONFIG % port)
    processes.own(sidecar)
    await sidecar.serve()
    await both_ways(sidecar)
    return sidecar


async def both_ways(sidecar: SidecarProcess) -> None:
    """Somebody who reads and writes as fast as it can."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sidecar.port('web')}") as client:
        async with client.get("/") as response:
            assert hashlib.sha256(await response.read()).hexdigest() == DIGEST
        async with client.post("/", data=io.BytesIO(BODY)) as response:
            assert await response.text() == DIGEST


async def settled(sidecar: SidecarProcess) -> int:
    """Its resident bytes when they grow no more."""
    found = [0, resident(f"/proc/{sidecar.pid}/statm")]
    while found[-1] - found[-2] > MIB / 4:
        await asyncio.sleep(0.5)
        found.append(resident(f"/proc/{sidecar.pid}/statm"))
    return found[-1]


async def waits(endpoint: Endpoint, sidecar: SidecarProcess, most: int) -> None:
    """All are under way; there is no more than so much memory in use, and others are served."""
    async with asyncio.timeout(WITHIN):
        await endpoint.asked.wait()
    used = await settled(sidecar)
    assert used < most, f"{(used - most) / MIB:.1f} MiB more"
    async with asyncio.timeout(WITHIN):
        await both_ways(sidecar)


async def test_answers_that_nobody_reads(processes: Processes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with endpoint.serving() as port:
        sidecar = await warm(processes, tmp_path, port)
        before = resident(f"/proc/{sidecar.pid}/statm")
        clients = [Client(sidecar.port("web")) for _ in range(CLIENTS)]
        await asyncio.gather(*(client.say(b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n") for client in clients))
        await waits(endpoint, sidecar, before + MOST)
        async with asyncio.timeout(WITHIN):
            for client in clients[::50]:
                assert hashlib.sha256(await client.body()).hexdigest() == DIGEST
        for client in clients:
            client.socket.close()
        await nothing_is_left(sidecar)


async def test_uploads_that_nobody_reads(processes: Processes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    head = b"POST /later HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE
    async with endpoint.serving() as port:
        sidecar = await warm(processes, tmp_path, port)
        before = resident(f"/proc/{sidecar.pid}/statm")
        clients = [Client(sidecar.port("web")) for _ in range(CLIENTS)]
        uploads = [asyncio.create_task(client.say(head + BODY)) for client in clients]
        await waits(endpoint, sidecar, before + MOST)
        for upload in uploads[10:]:
            upload.cancel()
        await asyncio.gather(*uploads[10:], return_exceptions=True)
        for client in clients[10:]:
            client.socket.close()
        endpoint.go_on.set()
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*uploads[:10])
            for client in clients[:10]:
                assert (await client.body()).decode() == DIGEST
        await nothing_is_left(sidecar)


async def nothing_is_left(sidecar: SidecarProcess) -> None:
    """Nobody is there any more."""
    async with asyncio.timeout(WITHIN):
        while (await metrics(sidecar.addresses["admin"])).total("sidecar_requests_in_flight"):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.05)
