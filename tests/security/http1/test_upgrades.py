"""Upgrades and CONNECT: no tunnel before the server says so, and what was sent ahead is no tunnel's after a refusal."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.security.http1.client import say
from tests.security.http1.recorder import recording
from tests.security.http1.scene import CONFIG
from tests.security.http1.scripted import Connection, Script, Scripted, scripted
from tests.support.sidecar import running

WITHIN = 10.0
# A machine that stands still for a second is no endpoint that does not answer: what was tried
# again would come with one header more.
FORWARD = """
admin: {bind: 127.0.0.1:0}
defaults: {timeouts: {connect: 10s}}
listeners:
  in:
    bind: 127.0.0.1:0
    mode: forward
    allow: ["127.0.0.0/8"]
"""

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE_GOT = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
AHEAD = b"GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n"
AHEAD_GOT = b"GET /ahead HTTP/1.1\r\nhost: a\r\n\r\n"
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"


@asynccontextmanager
async def asked(
    later: bytes, ahead: bytes
) -> AsyncIterator[tuple[Scripted, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client has asked for an upgrade and sent more; the server has seen the request, and
    says `later` when it is told to."""
    async with scripted(Script(b"", later)) as server, running(CONFIG % server.port) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.address("in").port)
        writer.write(UPGRADE + ahead)
        await received(server, UPGRADE_GOT)
        yield server, reader, writer
        writer.close()


async def received(server: Scripted, data: bytes) -> Connection:
    """Wait until the server's latest connection has brought `data`, and see that it is all."""
    await server.until(lambda: bool(server.connections) and len(server.connections[-1].data) >= len(data))
    assert server.connections[-1].data == data
    return server.connections[-1]


async def test_nothing_goes_through_before_the_101() -> None:
    async with asked(SWITCH, b"raw") as (server, reader, writer):
        writer.write(b"more")
        await writer.drain()
        # Another client's turn shows that the sidecar has read this one's bytes.
        assert (await say(writer.get_extra_info("peername")[1], AHEAD, 1)).statuses == [200]
        assert server.connections[0].data == UPGRADE_GOT
        server.go_on()
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN)
        await server.until(lambda: server.connections[0].data == UPGRADE_GOT + b"rawmore")
        server.connections[0].transport.write(b"back")
        assert await asyncio.wait_for(reader.readexactly(4), WITHIN) == b"back"


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSED,
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["403", "200", "100 and 403", "426"],
)
async def test_after_a_refusal_what_was_sent_ahead_is_the_next_request(answer: bytes) -> None:
    async with asked(answer, AHEAD) as (server, reader, _):
        server.go_on()
        await server.until(lambda: len(server.connections) == 2 or AHEAD_GOT in server.connections[0].data)
        # An upgrade's connection carries nothing else.
        assert server.connections[0].data == UPGRADE_GOT
        await received(server, AHEAD_GOT)
        got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), WITHIN)
        assert got.endswith(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


@pytest.mark.parametrize("ahead", [b"\x81\x05hello", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\0"])
async def test_after_a_refusal_what_is_no_request_is_refused_too(ahead: bytes) -> None:
    async with asked(REFUSED, ahead) as (server, reader, _):
        server.go_on()
        got = await asyncio.wait_for(reader.read(), WITHIN)
        assert got.startswith(b"HTTP/1.1 403 ")
        assert b"HTTP/1.1 400 " in got
        assert [connection.data for connection in server.connections] == [UPGRADE_GOT]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.0 101 Switching Protocols\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
        SWITCH.replace(b"websocket", b"h2c"),
        SWITCH.replace(b"websocket", b"websocket, h2c"),
        b"\x81\x05hello" + SWITCH,
    ],
    ids=["without its fields", "without Connection", "HTTP/1.0", "h2c", "h2c as well", "behind other bytes"],
)
async def test_a_101_that_is_none_opens_no_tunnel(answer: bytes) -> None:
    async with asked(answer, b"raw") as (server, reader, _):
        server.go_on()
        got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN)
        assert got.startswith(b"HTTP/1.1 502 ")
        await asyncio.wait_for(server.connections[0].closed.wait(), WITHIN)
        assert server.connections[0].data == UPGRADE_GOT


async def test_too_much_is_not_kept_for_later() -> None:
    async with scripted(Script(b"")) as server, running(CONFIG % server.port) as app:
        said = await say(app.address("in").port, UPGRADE + b"x" * 100_000)
        assert said.statuses == [400]
        assert said.closed
        for connection in server.connections:
            assert connection.data in (b"", UPGRADE_GOT)
            if connection.data:  # the head was read alone
                await asyncio.wait_for(connection.closed.wait(), WITHIN)


async def test_a_connect_where_there_is_no_proxy_opens_nothing() -> None:
    async with recording() as upstream, running(CONFIG % upstream.port) as app:
        said = await say(app.address("in").port, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + AHEAD, 2)
        assert said.statuses == [400, 200]
        assert upstream.received == AHEAD_GOT


async def test_a_connect_to_what_does_not_answer_opens_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        async with running(FORWARD) as app:
            place = b"127.0.0.1:%d" % closed.getsockname()[1]
            connect = b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"
            said = await say(app.address("in").port, connect + b"raw\r\n\r\n")
            assert said.statuses == [502, 400]
            assert said.closed


async def test_a_connect_that_is_forbidden_opens_nothing() -> None:
    async with recording() as upstream, running(FORWARD) as app:
        place = b"127.0.0.1:%d" % upstream.port
        ahead = b"GET http://" + place + b"/ahead HTTP/1.1\r\nHost: a\r\n\r\n"
        said = await say(app.address("in").port, b"CONNECT a.test:80 HTTP/1.1\r\nHost: a\r\n\r\n" + ahead, 2)
        assert said.statuses == [403, 200]
        assert upstream.received == b"GET /ahead HTTP/1.1\r\nhost: " + place + b"\r\n\r\n"


async def test_a_connect_that_is_answered_is_a_tunnel_for_what_was_sent_ahead() -> None:
    async with recording() as upstream, running(FORWARD) as app:
        place = b"127.0.0.1:%d" % upstream.port
        connect = b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"
        said = await say(app.address("in").port, connect + b"GET / HTTP/1.1\r\nHOST:  a\r\n\r\n", 2)
        assert said.statuses == [200, 200]
        assert upstream.received == b"GET / HTTP/1.1\r\nHOST:  a\r\n\r\n"
