"""RFC 9113, every MUST of sections 3 to 8 that a server can break: our client's connection answers as it has to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.codec.h2 import STREAM_WINDOW
from tests.security.http2 import frames as f
from tests.security.http2.cases import IGNORED, Case, Send, check, everywhere, goaway, play, rst
from tests.security.http2.frames import Peer
from tests.security.http2.musts import CLOSED, STREAM, shared
from tests.support import streams
from tests.support.sidecar import running

OK = [(b":status", b"200")]
POST = [(b":method", b"POST"), *f.GET[1:]]
EARLY = [(b":status", b"103"), (b"link", b"</a>")]
GRPC_TRAILERS = [(b"grpc-status", b"0")]


def head(stream: int = STREAM, fields: f.Fields = OK, end: bool = False) -> bytes:
    return f.headers(stream, fields, end)


def malformed(section: str, name: str, fields: list[tuple[bytes, bytes]], end: bool = True) -> Case:
    return Case(section, name, head(fields=fields, end=end), rst(1, f.PROTOCOL_ERROR))


def after_an_answer(*parts: bytes) -> Send:
    """Behind the end of the answer on stream 5, a GET."""
    return head(5, end=True) + b"".join(parts)


SERVER_ONLY = [
    # 3.4: SETTINGS come first.
    Case("3.4", "PING before SETTINGS", f.ping(), goaway(f.PROTOCOL_ERROR), greet=False),
    Case("3.4", "an acknowledgement first", f.settings(ack=True), goaway(f.PROTOCOL_ERROR), greet=False),
    Case(
        "3.4",
        "HTTP/1.1",
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        goaway(f.PROTOCOL_ERROR, f.FRAME_SIZE_ERROR),
        greet=False,
    ),
    # 5.1: half-closed (local) ends with END_STREAM.
    Case("5.1", "DATA behind the end of the answer", after_an_answer(f.data(5, b"x")), goaway(f.STREAM_CLOSED)),
    Case("5.1", "HEADERS behind the end of the answer", after_an_answer(head(5)), goaway(f.STREAM_CLOSED)),
    Case(
        "5.1",
        "DATA behind the end of the answer to an open request",
        head(1, end=True) + f.data(1, b"x"),
        rst(1, f.STREAM_CLOSED, f.CANCEL),  # the rest of the request is not wanted any more
    ),
    Case("5.1", "WINDOW_UPDATE behind the end of the answer", after_an_answer(f.window_update(5, 9)), IGNORED),
    Case("5.1", "RST_STREAM behind the end of the answer", after_an_answer(f.reset(5, f.NO_ERROR)), IGNORED),
    # 5.1.1: a server opens no stream by HEADERS.
    Case("5.1.1", "HEADERS on an even number", head(2), goaway(f.PROTOCOL_ERROR)),
    Case("5.1.1", "HEADERS on an idle stream", head(101), goaway(f.PROTOCOL_ERROR)),
    Case("5.1.1", "DATA on an even number", f.data(2, b"x"), goaway(f.PROTOCOL_ERROR)),
    # 6.5.2, 6.6, 8.4: nothing is pushed.
    Case("6.5.2", "ENABLE_PUSH of 1 from a server", f.settings((2, 1)), goaway(f.PROTOCOL_ERROR)),
    Case("6.6", "PUSH_PROMISE", f.push_promise(1, 2), goaway(f.PROTOCOL_ERROR)),
    Case("6.6", "PUSH_PROMISE on an idle stream", f.push_promise(101, 2), goaway(f.PROTOCOL_ERROR)),
    Case("6.6", "PUSH_PROMISE on stream 0", f.push_promise(0, 2), goaway(f.PROTOCOL_ERROR)),
    # 6.9.1: more than our window. The client of the sidecar reads nothing.
    Case(
        "6.9.1",
        "DATA beyond the stream's window",
        head() + b"".join(f.data(1, bytes(16384)) for _ in range(STREAM_WINDOW // 4096)),
        rst(1, f.FLOW_CONTROL_ERROR),
    ),
    # 8.1: messages.
    Case("8.1", "DATA before the head", f.data(1, b"x"), rst(1, f.PROTOCOL_ERROR)),
    Case("8.1", "a second final head", head() + head(end=True), rst(1, f.PROTOCOL_ERROR)),
    Case("8.1", "trailers without END_STREAM", head() + head(fields=GRPC_TRAILERS), rst(1, f.PROTOCOL_ERROR)),
    Case(
        "8.1",
        "a trailers-only head behind DATA",
        head() + f.data(1, b"x") + head(fields=[*OK, *GRPC_TRAILERS], end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    Case("8.1", "1xx that ends the stream", head(fields=[(b":status", b"103")], end=True), rst(1, f.PROTOCOL_ERROR)),
    Case("8.1", "1xx behind the head", head() + head(fields=[(b":status", b"103")]), rst(1, f.PROTOCOL_ERROR)),
    # As many as over HTTP/1.1 (RFC 9110 15.2 sets no bound, 10.5 asks for one).
    Case("10.5", "a flood of 1xx", head(fields=EARLY) * 33, rst(1, f.PROTOCOL_ERROR)),
    Case("10.5", "32 heads of 1xx on each of two streams", head(fields=EARLY) * 32 + head(3, EARLY) * 32, IGNORED),
    malformed("8.1.1", "content-length and no DATA", [*OK, (b"content-length", b"3")]),
    Case(
        "8.1.1",
        "content-length below DATA",
        head(fields=[*OK, (b"content-length", b"1")]) + f.data(1, b"xx", end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    Case(
        "8.1.1",
        "content-length above DATA",
        head(fields=[*OK, (b"content-length", b"3")]) + f.data(1, b"x", end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    Case(
        "8.1.1",
        "content-length twice",
        head(fields=[*OK, (b"content-length", b"1"), (b"content-length", b"1")]),
        rst(1, f.PROTOCOL_ERROR),
    ),
    Case("8.1.1", "a body for HEAD", head(7) + f.data(7, b"x", end=True), rst(7, f.PROTOCOL_ERROR)),
    Case(
        "8.1.1", "a body for 204", head(5, [(b":status", b"204")]) + f.data(5, b"x", end=True), rst(5, f.PROTOCOL_ERROR)
    ),
    Case(
        "8.1.1", "a body for 304", head(5, [(b":status", b"304")]) + f.data(5, b"x", end=True), rst(5, f.PROTOCOL_ERROR)
    ),
    malformed("8.2.1", "upper case in a name", [*OK, (b"X-a", b"b")]),
    malformed("8.2.1", "space in a name", [*OK, (b"x a", b"b")]),
    malformed("8.2.1", "empty name", [*OK, (b"", b"b")]),
    malformed("8.2.1", "NUL in a value", [*OK, (b"x-a", b"a\0b")]),
    malformed("8.2.1", "CR in a value", [*OK, (b"x-a", b"a\rb")]),
    malformed("8.2.1", "LF in a value", [*OK, (b"x-a", b"a\nb")]),
    malformed("8.2.1", "space before a value", [*OK, (b"x-a", b" b")]),
    malformed("8.2.2", "connection", [*OK, (b"connection", b"close")]),
    malformed("8.2.2", "keep-alive", [*OK, (b"keep-alive", b"1")]),
    malformed("8.2.2", "transfer-encoding", [*OK, (b"transfer-encoding", b"chunked")]),
    malformed("8.2.2", "upgrade", [*OK, (b"upgrade", b"websocket")]),
    malformed("8.3", "unknown pseudo-header field", [*OK, (b":test", b"x")]),
    malformed("8.3", "pseudo-header field of a request", [*OK, (b":path", b"/")]),
    malformed("8.3", "pseudo-header field behind a field", [(b"x-a", b"b"), *OK]),
    Case(
        "8.3",
        "pseudo-header field in trailers",
        head() + head(fields=[(b":status", b"200")], end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    malformed("8.3.2", "no status", [(b"x-a", b"b")]),
    malformed("8.3.2", "status twice", [*OK, *OK]),
    malformed("8.3.2", "status that is no number", [(b":status", b"2x0")]),
    malformed("8.6", "101", [(b":status", b"101")], end=False),
]


def opened(case: Case) -> Case:
    """A shared case behind the frames that begin one answer and end another."""
    assert isinstance(case.send, bytes)
    return replace(case, send=head() + f.reset(CLOSED) + case.send)


CASES = [*map(opened, shared()), *SERVER_ONLY]

Serve = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[int]:
    """A server of raw frames: `serve` gets each connection. What it raises fails the test."""
    failed: list[BaseException] = []
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await serve(peer)
        except Exception as error:
            failed.append(error)
        finally:
            peer.close()

    server = await streams.serve(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    if failed:
        raise failed[0]


def proxied(port: int) -> str:
    """A sidecar in front of that server, without retries."""
    return f"""
    admin: {{bind: "127.0.0.1:0"}}
    clusters:
      web:
        endpoints: ["127.0.0.1:{port}"]
        protocol: http2
        retry: {{attempts: 1}}
    listeners: {{in: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}}}
    """


@pytest.mark.parametrize(("case", "before"), everywhere(CASES), ids=str)
async def test_what_a_server_must_not_do_is_answered_as_the_rfc_asks(case: Case, before: int) -> None:
    checked = asyncio.Event()

    async def serve(peer: Peer) -> None:
        try:
            assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
            if case.greet:
                await peer.send(f.settings((3, 100)))
                # Streams 1 and 3 are requests with a body, 5 a GET, 7 a HEAD.
                while len(peer.of(f.HEADERS)) < 4:
                    assert await peer.read_frame() is not None
            await play(peer, case, before)
            await check(peer, case.answer)
        finally:
            checked.set()

    async with raw_server(serve) as server_port, running(proxied(server_port)) as app:
        client = await f.connect(app.address("in").port)
        await client.send(
            f.headers(1, POST) + f.headers(3, POST) + f.headers(5, f.GET, end=True),
            f.headers(7, [(b":method", b"HEAD"), *f.GET[1:]], end=True),
        )
        await asyncio.wait_for(checked.wait(), 20)
        client.close()
