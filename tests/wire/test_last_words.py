"""sidecar.wire.last_words: what a peer said before it reset its connection reaches the other side.

A write that fails ends a transport of uvloop with what came in unread: in the unit tests a
socket holds it, and the connection is told of the failure before any read."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.model.head import ResponseHead
from sidecar.model.outcome import Failure
from sidecar.wire.last_words import last_words, reset_behind
from tests.security.http1.scene import CONFIG
from tests.support.sidecar import running
from tests.wire import h2_peers
from tests.wire.h1_peers import Downstream, FakeTransport, Upstream
from tests.wire.test_h1_client import SWITCH
from tests.wire.test_tunnel import Side

WITHIN = 10.0
ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GOODBYE = b"\x88\x02\x03\xf1"  # a close frame: 1009


class Wire:
    """Two sockets: `near` is the transport's, and the peer writes to `far`."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)

    def under(self, transport: FakeTransport) -> None:
        """Let the transport be of the near one."""
        transport.socket = self.near  # type: ignore[assignment]

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def lose(connection: Any) -> None:
    connection.connection_lost(BrokenPipeError())


# What the kernel has.


def test_all_that_lies_in_the_socket(wire: Wire) -> None:
    transport = FakeTransport()
    wire.under(transport)
    wire.far.send(b"a" * 100_000)
    wire.far.close()
    assert b"".join(last_words(transport)) == b"a" * 100_000


def test_no_word(wire: Wire) -> None:
    transport = FakeTransport()
    wire.under(transport)
    assert list(last_words(transport)) == []
    wire.near.close()
    assert list(last_words(transport)) == []


# Servers.


def test_an_early_answer(wire: Wire) -> None:
    server = Upstream()
    wire.under(server.transport)
    heard = server.ask(b"POST", False, headers=[(b"content-length", b"9")], length=9)
    wire.far.send(ANSWER)
    lose(server.connection)
    assert heard.log == [("head", 413, False), ("data", 3, True)]
    assert heard.failure is None
    assert server.idle == []
    assert server.closed == [False]


def test_an_answer_in_part(wire: Wire) -> None:
    server = Upstream()
    wire.under(server.transport)
    heard = server.ask(b"POST", False, headers=[(b"content-length", b"9")], length=9)
    wire.far.send(ANSWER[:-1])
    lose(server.connection)
    assert heard.log[:2] == [("head", 413, False), ("data", 2, False)]
    assert heard.failure is Failure.RESET


def test_an_answer_to_a_whole_request_is_not_reused(wire: Wire) -> None:
    server = Upstream()
    wire.under(server.transport)
    heard = server.ask()
    wire.far.send(ANSWER)
    lose(server.connection)
    assert heard.ended
    assert server.idle == []
    assert server.closed == [False]


def test_a_body_that_only_its_connection_ends_is_cut(wire: Wire) -> None:
    server = Upstream()
    wire.under(server.transport)
    heard = server.ask()
    server.say(b"HTTP/1.1 200 OK\r\n\r\na")
    wire.far.send(b"b")
    wire.far.close()
    lose(server.connection)
    assert heard.body == b"ab"
    assert heard.failure is Failure.RESET


def test_a_websocket(wire: Wire) -> None:
    server = Upstream()
    wire.under(server.transport)
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)
    wire.far.send(GOODBYE)
    lose(server.connection)
    assert heard.body == GOODBYE
    assert heard.failure is Failure.RESET


def test_a_websockets_server_that_has_ended_takes_no_more() -> None:
    """It closed its socket, so that the FIN was all it said; what the client still sends resets it."""
    server = Upstream()
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)
    assert server.half_close()
    assert heard.failure is None
    lose(server.connection)
    assert heard.failure is Failure.RESET
    assert server.closed == [False]


def test_http2(wire: Wire) -> None:
    server = h2_peers.Upstream()
    stream, heard = server.ask(body=b"some")
    server.pump()
    server.answer(stream.id)
    transport = FakeTransport()
    wire.under(transport)
    server.connection.transport = transport
    wire.far.send(server.peer.data_to_send())
    lose(server.connection)
    assert heard.body == b"pong"
    assert heard.ended
    assert heard.failure is None


@pytest.mark.parametrize("kind", ["client", "server"])
def test_a_tunnel(wire: Wire, kind: str) -> None:
    side = Side(kind)
    if kind == "server":
        side.stream.connection_made(side.transport)
    wire.under(side.transport)
    wire.far.send(b"last")
    lose(side.stream)
    assert side.heard.body == b"last"
    assert side.heard.failure is not None


# Clients.


def test_a_websockets_client(wire: Wire) -> None:
    client = Downstream()
    client.say(UPGRADE)
    client.do(lambda: client.connection.send_head(ResponseHead(101, [(b"upgrade", b"websocket")], None), False))
    heard = client.heard
    wire.under(client.transport)
    wire.far.send(GOODBYE)
    lose(client.connection)
    assert heard.body == GOODBYE
    assert heard.failure is Failure.CANCELLED


def test_a_request_that_is_cut_is_not_gone_on_with(wire: Wire) -> None:
    """Its client has left: nobody would hear the answer."""
    client = Downstream()
    client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    heard = client.heard
    wire.under(client.transport)
    wire.far.send(b"cd")
    lose(client.connection)
    assert heard.body == b"ab"
    assert heard.failure is Failure.CANCELLED


# The reset goes behind what was written.


def test_a_reset_waits_for_what_was_written() -> None:
    runtime = h2_peers.FakeRuntime()
    transport = FakeTransport()
    transport.unsent = 5
    reset_behind(transport, runtime.timers)
    assert transport.socket.reset_on_close
    assert transport.closing
    assert not transport.aborted
    runtime.timers.advance(60.0)
    assert transport.aborted


def test_a_reset_with_nothing_before_it() -> None:
    runtime = h2_peers.FakeRuntime()
    transport = FakeTransport()
    reset_behind(transport, runtime.timers)
    assert transport.socket.reset_on_close
    assert transport.aborted


def test_what_a_tunnel_has_said_goes_out_before_its_reset() -> None:
    side = Side("client")

    def say_and_reset() -> None:
        side.stream.send_data(b"last", False)
        side.stream.reset(Failure.CANCELLED)

    assert side.do(say_and_reset) == b"last"
    assert side.transport.socket.reset_on_close


def test_what_a_websockets_client_has_said_goes_out_before_its_reset() -> None:
    server = Upstream()
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)

    def say_and_reset() -> None:
        heard.stream.send_data(GOODBYE, False)
        heard.stream.reset(Failure.CANCELLED)

    assert server.do(say_and_reset) == GOODBYE
    assert server.transport.socket.reset_on_close


# On real sockets.


async def _reset_after(answer: bytes, reads: int) -> tuple[asyncio.Server, int]:
    """A server that reads so much, answers, and closes with the rest unread: the kernel resets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(reads)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    return server, server.sockets[0].getsockname()[1]


async def _told(port: int, head: bytes, body: bytes) -> bytes:
    """What a client is told that writes all it has without listening."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        async with asyncio.timeout(WITHIN):
            writer.write(head + body)
            while not got.endswith(b"big") and (data := await reader.read(65536)):
                got += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    return got


@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_an_upload_that_is_turned_down_gets_its_answer(size: int) -> None:
    server, port = await _reset_after(ANSWER, 20_000)
    async with server, running(CONFIG % port) as app:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        for _ in range(20):
            got = await _told(app.address("in").port, head, b"x" * size)
            assert got.startswith(b"HTTP/1.1 413 ")
            assert got.endswith(b"big")
