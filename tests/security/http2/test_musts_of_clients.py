"""RFC 9113, every MUST of sections 3 to 8 that a client can break: our listener answers as it has to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from struct import pack

import pytest

from sidecar.codec.h2 import MAX_FRAME, MAX_STREAMS
from tests.security.http2 import frames as f
from tests.security.http2.cases import IGNORED, Case, Send, check, everywhere, goaway, play, rst
from tests.security.http2.frames import Peer
from tests.security.http2.musts import CLOSED, STREAM, shared
from tests.support.http_service import HttpService
from tests.support.sidecar import running

OPEN = f.headers(STREAM, [(b":method", b"POST"), f.GET[1], (b":path", b"/hang"), f.GET[3]])
HANG = [*f.GET[:2], (b":path", b"/hang"), f.GET[3]]
EMPTY = [*f.GET[:2], (b":path", b"/empty"), f.GET[3]]


async def answered(peer: Peer, stream: int) -> None:
    """Ask on a stream and read the whole answer: the stream is closed afterwards."""
    await peer.send(f.headers(stream, EMPTY, end=True))
    while (got := await peer.read_frame()) is not None:
        if got.stream == stream and got.end:
            return


def after_an_answer(*parts: bytes) -> Send:
    async def send(peer: Peer) -> None:
        await answered(peer, 1)
        await peer.send(*parts)

    return send


def after_our_reset(*parts: bytes) -> Send:
    async def send(peer: Peer) -> None:
        # A malformed request is what the sidecar resets by itself.
        await peer.send(f.headers(1, [*HANG, (b"Upper", b"x")]))
        await peer.until(f.RST_STREAM, 1)
        await peer.send(*parts)

    return send


def many_streams(number: int) -> bytes:
    return b"".join(f.headers(1 + 2 * index, HANG, end=True) for index in range(number))


def malformed(section: str, name: str, fields: list[tuple[bytes, bytes]]) -> Case:
    return Case(section, name, f.headers(1, fields, end=True), rst(1, f.PROTOCOL_ERROR))


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in HANG if pair[0] != name]


CLIENT_ONLY = [
    # 3.4: the preface.
    Case("3.4", "preface that is none", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", goaway(f.PROTOCOL_ERROR), greet=False),
    Case("3.4", "no SETTINGS behind it", f.PREFACE + f.ping(), goaway(f.PROTOCOL_ERROR), greet=False),
    Case("3.4", "an acknowledgement first", f.PREFACE + f.settings(ack=True), goaway(f.PROTOCOL_ERROR), greet=False),
    # 5.1: half-closed (remote).
    Case("5.1", "DATA behind END_STREAM", f.headers(1, HANG, end=True) + f.data(1, b"x"), rst(1, f.STREAM_CLOSED)),
    Case(
        "5.1",
        "HEADERS behind END_STREAM",
        f.headers(1, HANG, end=True) + f.headers(1, [(b"x-a", b"b")], end=True),
        rst(1, f.STREAM_CLOSED),
    ),
    Case(
        "5.1",
        "CONTINUATION behind END_STREAM",
        f.headers(1, HANG, end=True) + f.frame(f.CONTINUATION, 4, 1, b""),
        goaway(f.PROTOCOL_ERROR),
    ),
    Case("5.1", "WINDOW_UPDATE behind END_STREAM", f.headers(1, HANG, end=True) + f.window_update(1, 9), IGNORED),
    Case("5.1", "PRIORITY behind END_STREAM", f.headers(1, HANG, end=True) + f.priority(1, 3), IGNORED),
    # 5.1: closed.
    Case("5.1", "DATA on a closed stream", after_an_answer(f.data(1, b"x")), goaway(f.STREAM_CLOSED)),
    Case("5.1", "HEADERS on a closed stream", after_an_answer(f.headers(1, HANG, end=True)), goaway(f.STREAM_CLOSED)),
    Case("5.1", "WINDOW_UPDATE on a closed stream", after_an_answer(f.window_update(1, 9)), IGNORED),
    Case("5.1", "RST_STREAM on a closed stream", after_an_answer(f.reset(1)), IGNORED),
    Case("5.1", "DATA that crossed our RST_STREAM", after_our_reset(f.data(1, b"x")), rst(1, f.PROTOCOL_ERROR)),
    Case(
        "5.1",
        "trailers that crossed our RST_STREAM",
        after_our_reset(f.headers(1, [(b"x-a", b"b")], end=True)),
        rst(1, f.PROTOCOL_ERROR),
    ),
    # 5.1.1: numbers.
    Case("5.1.1", "even number", f.headers(2, HANG, end=True), goaway(f.PROTOCOL_ERROR)),
    Case(
        "5.1.1",
        "number lower than one before",
        f.headers(5, HANG, end=True) + f.headers(3, HANG, end=True),
        goaway(f.PROTOCOL_ERROR),
    ),
    Case(
        "5.1.1",
        "DATA on a number that was passed over",
        f.headers(5, HANG, end=True) + f.data(3, b"x"),
        goaway(f.STREAM_CLOSED, f.PROTOCOL_ERROR),
    ),
    # 5.1.2: more than allowed, and the client has acknowledged the limit. A stream error may be
    # treated as one of the connection (5.4.1): the library does.
    Case("5.1.2", "one stream too many", many_streams(MAX_STREAMS + 1), goaway(f.PROTOCOL_ERROR)),
    # RFC 7540 5.3.1; RFC 9113 has no such rule. A stream error may be treated as one of the connection (5.4.1).
    Case(
        "5.3.1",
        "HEADERS that depend on their own stream",
        f.frame(f.HEADERS, 5 | f.PRIORITIZED, 1, pack(">IB", 1, 15) + f.block(HANG)),
        goaway(f.PROTOCOL_ERROR),
    ),
    # 6.2
    Case("6.2", "HEADERS too short for their priority", f.frame(f.HEADERS, 0x24, 1, b"\0"), goaway(f.FRAME_SIZE_ERROR)),
    # 6.6, 8.4: a client pushes nothing.
    Case("8.4", "PUSH_PROMISE", OPEN + f.push_promise(1, 2), goaway(f.PROTOCOL_ERROR)),
    # 8.1: messages.
    Case("8.1", "a second head", OPEN + f.headers(1, HANG), rst(1, f.PROTOCOL_ERROR)),
    Case("8.1", "trailers without END_STREAM", OPEN + f.headers(1, [(b"x-a", b"b")]), rst(1, f.PROTOCOL_ERROR)),
    Case("8.1", "pseudo-header field in trailers", OPEN + f.headers(1, [f.GET[0]], end=True), rst(1, f.PROTOCOL_ERROR)),
    Case(
        "8.1.1",
        "content-length below DATA",
        f.headers(1, [*HANG, (b"content-length", b"1")]) + f.data(1, b"xx", end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    Case(
        "8.1.1",
        "content-length above DATA",
        f.headers(1, [*HANG, (b"content-length", b"3")]) + f.data(1, b"x") + f.data(1, b"x", end=True),
        rst(1, f.PROTOCOL_ERROR),
    ),
    malformed("8.1.1", "content-length and no DATA", [*HANG, (b"content-length", b"3")]),
    malformed("8.2.1", "upper case in a name", [*HANG, (b"X-a", b"b")]),
    malformed("8.2.1", "space in a name", [*HANG, (b"x a", b"b")]),
    malformed("8.2.1", "colon in a name", [*HANG, (b"x:a", b"b")]),
    malformed("8.2.1", "empty name", [*HANG, (b"", b"b")]),
    malformed("8.2.1", "NUL in a value", [*HANG, (b"x-a", b"a\0b")]),
    malformed("8.2.1", "CR in a value", [*HANG, (b"x-a", b"a\rb")]),
    malformed("8.2.1", "LF in a value", [*HANG, (b"x-a", b"a\nb")]),
    malformed("8.2.1", "space before a value", [*HANG, (b"x-a", b" b")]),
    malformed("8.2.1", "tab behind a value", [*HANG, (b"x-a", b"b\t")]),
    malformed("8.2.2", "connection", [*HANG, (b"connection", b"close")]),
    malformed("8.2.2", "proxy-connection", [*HANG, (b"proxy-connection", b"close")]),
    malformed("8.2.2", "keep-alive", [*HANG, (b"keep-alive", b"1")]),
    malformed("8.2.2", "transfer-encoding", [*HANG, (b"transfer-encoding", b"chunked")]),
    malformed("8.2.2", "upgrade", [*HANG, (b"upgrade", b"websocket")]),
    malformed("8.2.2", "te other than trailers", [*HANG, (b"te", b"trailers, gzip")]),
    malformed("8.3", "unknown pseudo-header field", [*HANG, (b":test", b"x")]),
    malformed("8.3", "pseudo-header field of a response", [*HANG, (b":status", b"200")]),
    malformed("8.3", "pseudo-header field behind a field", [(b"x-a", b"b"), *HANG]),
    malformed("8.3", "method twice", [HANG[0], *HANG]),
    malformed("8.3", "scheme twice", [HANG[1], *HANG]),
    malformed("8.3", "path twice", [HANG[2], *HANG]),
    malformed("8.3", "authority twice", [HANG[3], *HANG]),
    malformed("8.3.1", "empty path", [HANG[0], HANG[1], (b":path", b""), HANG[3]]),
    malformed("8.3.1", "no method", without(b":method")),
    malformed("8.3.1", "no scheme", without(b":scheme")),
    malformed("8.3.1", "no path", without(b":path")),
    malformed("8.3.1", "user in the authority", [*HANG[:3], (b":authority", b"me@service.test")]),
    malformed("8.3.1", "host unlike authority", [*HANG, (b"host", b"other.test")]),
    malformed("8.5", "CONNECT with a path", [(b":method", b"CONNECT"), HANG[2], HANG[3]]),
    malformed("8.5", "CONNECT with a scheme", [(b":method", b"CONNECT"), HANG[1], HANG[3]]),
    malformed("8.5", "CONNECT without an authority", [(b":method", b"CONNECT")]),
]


def opened(case: Case) -> Case:
    """A shared case behind the frames that open and close its streams."""
    assert isinstance(case.send, bytes)
    return replace(case, send=OPEN + f.headers(CLOSED, HANG) + f.reset(CLOSED) + case.send)


CASES = [*map(opened, shared()), *CLIENT_ONLY]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A listener of a sidecar in front of a real service."""
    async with HttpService() as service:
        config = f"""
        admin: {{bind: "127.0.0.1:0"}}
        clusters:
          web:
            endpoints: ["{service.address}"]
            protocol: http1
            limits: {{requests: 5000, connections: 5000}}
        listeners: {{in: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}}}
        """
        async with running(config) as app:
            yield app.address("in").port


@pytest.mark.parametrize(("case", "before"), everywhere(CASES), ids=str)
async def test_what_a_client_must_not_do_is_answered_as_the_rfc_asks(case: Case, before: int, port: int) -> None:
    peer = await f.connect(port, greet=case.greet)
    try:
        await play(peer, case, before)
        await check(peer, case.answer)
    finally:
        peer.close()


async def test_data_beyond_the_window_of_a_stream_ends_the_stream_alone(socket_folder: Path) -> None:
    # RFC 9113 6.9.1. The server takes nothing, so that at some time no window is given back any more:
    # the buffer of a unix socket, which does not grow, is full long before the client has sent all.
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(socket_folder / "deaf"))
        deaf.listen()
        config = f"""
        admin: {{bind: "127.0.0.1:0"}}
        clusters: {{web: {{endpoints: ["unix:{socket_folder}/deaf"], protocol: http1}}}}
        listeners: {{in: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}}}
        """
        async with running(config) as app:
            peer = await f.connect(app.address("in").port)
            try:
                reading = asyncio.create_task(peer.until(f.RST_STREAM, STREAM))
                await peer.send(OPEN)
                for _ in range(120):  # 7.5 MiB
                    if reading.done():
                        break
                    await peer.send(f.data(STREAM, bytes(MAX_FRAME)))
                reset = await asyncio.wait_for(reading, 10)
                assert reset is not None
                assert reset.code == f.FLOW_CONTROL_ERROR
                assert await peer.alive()
                assert not peer.of(f.GOAWAY)
            finally:
                peer.close()
