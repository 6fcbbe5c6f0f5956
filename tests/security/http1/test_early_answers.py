"""Servers that answer before the request has ended: their connection carries nothing else."""

import asyncio

import pytest

from tests.security.http1.scene import CONFIG
from tests.security.http1.scripted import Script, scripted
from tests.security.http2 import frames as f
from tests.support.sidecar import running

WITHIN = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT_GOT = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("begin", "rest", "goes_on"),
    [
        (POST + b"Content-Length: 10\r\n\r\n01234", b"56789", True),
        (POST + b"Content-Length: %d\r\n\r\n" % len(NEXT), NEXT, True),
        (POST + b"Content-Length: 1000000\r\n\r\n01234", b"56789", False),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", b"0\r\n\r\n", False),
        (POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", b"0123456789", False),
    ],
    ids=["a short rest", "a rest that looks like a request", "a long rest", "chunks", "nobody knows whether it comes"],
)
async def test_http1(begin: bytes, rest: bytes, goes_on: bool) -> None:
    async with scripted(Script(OK)) as server, running(CONFIG % server.port) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.address("in").port)
        writer.write(begin)
        got = await asyncio.wait_for(reader.readuntil(b"ok"), WITHIN)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"connection: close\r\n" in got) is not goes_on
        first = server.connections[0]
        await asyncio.wait_for(first.closed.wait(), WITHIN)
        writer.write(rest + NEXT)
        got = await asyncio.wait_for(reader.read() if not goes_on else reader.readuntil(b"ok"), WITHIN)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n") is goes_on
        assert rest not in first.data
        assert [connection.data for connection in server.connections[1:]] == [NEXT_GOT] * goes_on
        writer.close()


@pytest.mark.parametrize("length", [b"10", None])
async def test_http2(length: bytes | None) -> None:
    async with scripted(Script(OK)) as server, running(CONFIG % server.port) as app:
        peer = await f.connect(app.address("in").port)
        fields = [f.POST[0], *f.GET[1:3], (b":authority", b"a")]
        if length is not None:
            fields.append((b"content-length", length))
        await peer.send(f.headers(1, fields) + f.data(1, b"01234"))
        async with asyncio.timeout(WITHIN):
            assert await peer.until(f.RST_STREAM, 1, f.NO_ERROR)  # RFC 9113 8.1
            await server.connections[0].closed.wait()
            await peer.send(f.data(1, b"56789", end=True))
            await peer.send(f.headers(3, [f.GET[0], *fields[1:4]], end=True))
            while not peer.of(f.DATA, 3):
                assert await peer.read_frame()
        assert b"56789" not in server.connections[0].data
        assert server.connections[1].data == b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
        peer.close()
