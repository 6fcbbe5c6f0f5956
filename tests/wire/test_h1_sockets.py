"""HTTP/1.1 through a whole sidecar on real sockets and uvloop: raw bytes of a client on
one side, a server that misbehaves at chosen moments on the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from tests.support import faults
from tests.support.fault_server import FaultServer, Step
from tests.support.sidecar import running

GET = b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"
WITHIN = 5.0


class Client:
    """A TCP client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WITHIN)

    async def exactly(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), WITHIN)

    async def rest(self) -> bytes:
        """Everything up to a clean end."""
        return await asyncio.wait_for(self.reader.read(), WITHIN)


class World:
    """A sidecar with a cluster's own port `up` and a forward listener `proxy`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @asynccontextmanager
    async def client(self, listener: str = "up") -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.app.address(listener).port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def quiet(self) -> None:
        """Until no exchange is under way: nothing leaks."""
        async with asyncio.timeout(WITHIN):
            while self.app.runtime.in_flight:  # noqa: ASYNC110 - nobody tells when the last one ends
                await asyncio.sleep(0.005)


def served(step: Step, body: Callable[[World, FaultServer], Awaitable[None]]) -> None:
    """Run `body` in front of a server that plays `step` for every request."""

    async def main() -> None:
        async with FaultServer(then=step) as server, running(_config(server.address)) as app:
            made = World(app)
            await body(made, server)
            await made.quiet()

    uvloop.run(main())


def scripted(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    body: Callable[[World, str], Awaitable[None]],
    allow: bool = False,
) -> None:
    """Run `body` in front of a server that does `serve` with every connection."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async def main() -> None:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with running(_config(address, f'"{address}"' if allow else "")) as app:
                made = World(app)
                await body(made, address)
                await made.quiet()

    uvloop.run(main())


def _config(address: str, allow: str = "") -> str:
    return f"""
admin: {{bind: 127.0.0.1:0}}
clusters:
  up:
    listen: 127.0.0.1:0
    endpoints: ["{address}"]
    retry: {{attempts: 1}}
    timeouts: {{idle: 4s}}
listeners:
  proxy:
    bind: 127.0.0.1:0
    mode: forward
    allow: [{allow}]
    routes:
      - match: {{host: up}}
        to: up
"""


# An endpoint that breaks off.


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("length", [100, None])
def test_a_body_that_breaks_off_is_seen_to_be_cut(end: str, length: int | None) -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client() as client:
            client.say(GET)
            head = await client.head()
            rest = await client.rest()
            if length:
                assert b"content-length: 100\r\n" in head.lower()
                assert rest == b"part"
            else:
                assert b"transfer-encoding: chunked\r\n" in head.lower()
                assert rest == b"4\r\npart\r\n"  # no last chunk

    served(faults.partial_body(length=length, end=end), body)


@pytest.mark.parametrize("end", ["reset", "close"])
def test_a_client_of_1_0_cannot_take_a_broken_body_for_a_whole_one(end: str) -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client() as client:
            client.say(b"GET / HTTP/1.0\r\n\r\n")
            assert b"chunked" not in await client.head()
            with pytest.raises(ConnectionResetError):
                await client.rest()

    served(faults.partial_body(length=None, end=end), body)


def test_a_client_of_1_0_gets_a_chunked_body_until_close() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"3\r\ndef\r\n0\r\nX-T: 1\r\n\r\n")
        await reader.read()

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            client.say(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head = (await client.head()).lower()
            assert b"connection: close\r\n" in head
            assert b"transfer-encoding" not in head
            assert await client.rest() == b"abcdef"

    scripted(serve, body)


def test_a_reset_before_the_head_is_a_502() -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client() as client:
            client.say(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 3\r\n\r\nabc")
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 502 ")
            assert b"x-sidecar-error: reset\r\n" in head
            assert len(server.requests) == 1

    served(faults.commit_then_reset, body)


# Early answers, 1xx, pipelines.


def test_an_early_answer_reaches_a_client_that_goes_on_sending() -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client() as client:
            client.say(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 200_000)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close\r\n" in head
            client.say(b"x" * 1_000_000)
            assert await client.rest() == b"too much"

    served(faults.early_answer(), body)


def test_a_client_that_waits_for_100_gets_it_and_then_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"expect: 100-continue\r\n" in (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body)
        await reader.read()

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            client.say(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            client.say(b"abc")
            assert b"link: x\r\n" in await client.head()
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.exactly(3) == b"abc"

    scripted(serve, body)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            path = line.split()[1]
            length = 0
            while (field := await reader.readline()) != b"\r\n":
                if field.lower().startswith(b"content-length"):
                    length = int(field.split(b":")[1])
            answer = path + b" " + await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            for i in range(200):
                client.say(b"PUT /%d HTTP/1.1\r\nHost: up\r\nContent-Length: 5\r\n\r\n%05d" % (i, i))
            for i in range(200):
                await client.head()
                expected = b"/%d %05d" % (i, i)
                assert await client.exactly(len(expected)) == expected

    scripted(serve, body)


def test_an_answer_to_head_leaves_the_endpoints_connection_usable() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        framings = [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n"]
        for framing in framings:
            asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + (b"" if asked.startswith(b"HEAD") else b"x"))
        await reader.read()

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            for _ in range(2):
                client.say(b"HEAD / HTTP/1.1\r\nHost: up\r\n\r\n")
                await client.head()
            client.say(GET)
            await client.head()
            assert await client.exactly(1) == b"x"
        assert connections == 1

    scripted(serve, body)


# Back-pressure.


def test_a_client_that_does_not_read_stops_the_server() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent < 100_000_000:
            writer.write(b"x" * 100_000)
            sent += 100_000
            await writer.drain()
        await reader.read()

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            client.say(GET)
            await client.head()
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 40_000_000  # what the kernel's buffers hold, not the whole body
            left = 100_000_000
            while left:
                left -= len(await asyncio.wait_for(client.reader.read(1_000_000), WITHIN))
        assert sent == 100_000_000

    scripted(serve, body)


# Upgrades and CONNECT.

UPGRADE = b"GET / HTTP/1.1\r\nHost: up\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def echo_upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switch to a protocol that says every byte again, and `bye` at the end."""
    assert b"upgrade: echo" in (await reader.readuntil(b"\r\n\r\n")).lower()
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
    while data := await reader.read(65536):
        writer.write(data)
    writer.write(b"bye")


def test_an_upgraded_connection_carries_bytes_both_ways_and_its_half_close() -> None:
    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            client.say(UPGRADE)
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.exactly(5) == b"hello"
            for size in (1, 1000, 300_000):
                client.say(b"x" * size)
                assert await client.exactly(size) == b"x" * size
            client.writer.write_eof()
            assert await client.rest() == b"bye"

    scripted(echo_upgraded, body)


def test_an_upgraded_connection_whose_server_ends_first_still_takes_bytes() -> None:
    got = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        writer.write_eof()
        while data := await reader.read(65536):
            got.extend(data)
        ended.set()

    async def body(world: World, address: str) -> None:
        async with world.client() as client:
            client.say(UPGRADE)
            await client.head()
            assert await client.rest() == b""
            for _ in range(3):
                client.say(b"x" * 100)
                await client.writer.drain()
                await asyncio.sleep(0)
            client.writer.write_eof()
            await asyncio.wait_for(ended.wait(), WITHIN)
            assert len(got) == 300

    scripted(serve, body)


@pytest.mark.parametrize("together", [True, False])
def test_requests_inside_a_connect_to_a_routed_host_take_the_path(together: bool) -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client("proxy") as client:
            connect = b"CONNECT up:80 HTTP/1.1\r\nHost: up:80\r\n\r\n"
            if together:
                client.say(connect + GET)
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            else:
                client.say(connect)
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                client.say(GET)
            assert (await client.head()).startswith(b"HTTP/1.1 201 ")
        assert server.requests[0].header("host") == "up"

    served(faults.answer(201), body)


@pytest.mark.parametrize("together", [True, False])
def test_a_connect_to_an_allowed_host_is_a_tunnel(together: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.write(b"bye")

    async def body(world: World, address: str) -> None:
        async with world.client("proxy") as client:
            connect = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (address.encode(), address.encode())
            if together:
                client.say(connect + b"\x16\x03raw")
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            else:
                client.say(connect)
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                client.say(b"\x16\x03raw")
            assert await client.exactly(5) == b"\x16\x03raw"
            client.writer.write_eof()
            assert await client.rest() == b"bye"

    scripted(serve, body, allow=True)


def test_tls_inside_a_connect_to_a_routed_host_is_passed_through() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"server hello to " + await reader.readexactly(6))

    async def body(world: World, address: str) -> None:
        async with world.client("proxy") as client:
            client.say(b"CONNECT up:443 HTTP/1.1\r\nHost: up:443\r\n\r\n\x16")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            client.say(b"\x03\x01abc")
            assert await client.exactly(22) == b"server hello to \x16\x03\x01abc"

    scripted(serve, body)


def test_a_connect_to_another_host_is_refused_and_the_connection_lives() -> None:
    async def body(world: World, server: FaultServer) -> None:
        async with world.client("proxy") as client:
            for _ in range(2):
                client.say(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n")
                head = await client.head()
                assert head.startswith(b"HTTP/1.1 403 ")
                assert b"x-sidecar-error: forbidden\r\n" in head
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                assert json.loads(await client.exactly(length))["error"] == "forbidden"
            client.say(b"GET http://up/p HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert server.requests[0].header("host") == "up"
        assert server.requests[0].path == "/p"

    served(faults.ok, body)
