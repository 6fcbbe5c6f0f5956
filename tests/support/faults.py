"""The usual steps of a `FaultServer`, and how its connections may begin.

Some are steps (`async def`), the others take parameters and return one.
"Commit" means that the request was read wholly and counts as executed.
"""

import asyncio
from typing import cast

from tests.support.fault_h1 import Http1Exchange
from tests.support.fault_h2 import Http2Exchange
from tests.support.fault_server import Connection, Exchange, Fields, Step

# RFC 9113 7
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0x0, 0x1, 0x2, 0x7, 0x8, 0xB


def answer(
    status: int = 200, body: bytes = b"ok", headers: Fields | None = None, trailers: Fields | None = None
) -> Step:
    """Commit and answer."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        if trailers:
            await exchange.send_head(status, headers)
            await exchange.send_data(body)
            await exchange.send_trailers(trailers)
        else:
            await exchange.send_head(status, headers, len(body))
            await exchange.send_data(body, end=True)

    return step


ok = answer()


def grpc_answer(message: bytes = b"", code: int = 0, text: str = "", trailers: Fields | None = None) -> Step:
    """Commit and answer as a gRPC service: one message, then the status in trailers."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send_head(200, [(b"content-type", b"application/grpc")])
        await exchange.send_data(b"\x00" + len(message).to_bytes(4, "big") + message)
        await exchange.send_trailers(_status(code, text) + (trailers or []))

    return step


def grpc_trailers_only(code: int, text: str = "", trailers: Fields | None = None) -> Step:
    """Commit and fail as a gRPC service: the status in the only HEADERS frame (HTTP/2 alone)."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        head = [(b"content-type", b"application/grpc"), *_status(code, text), *(trailers or [])]
        await _h2(exchange).send_trailers_only(head)

    return step


async def reset_before_head(exchange: Exchange) -> None:
    """RST as soon as the first bytes of a request arrive; nothing is committed."""
    exchange.connection.reset()


async def close_before_head(exchange: Exchange) -> None:
    """FIN as soon as the first bytes of a request arrive: the race at the end of a keep-alive."""
    exchange.connection.close()


async def commit_then_reset(exchange: Exchange) -> None:
    """Commit, then RST with no byte of an answer."""
    await exchange.request()
    exchange.connection.reset()


async def commit_then_close(exchange: Exchange) -> None:
    """Commit, then FIN with no byte of an answer."""
    await exchange.request()
    exchange.connection.close()


async def commit_then_half_close(exchange: Exchange) -> None:
    """Commit, then FIN in our direction alone; the peer has to end the connection."""
    await exchange.request()
    exchange.connection.half_close()
    await _gone(exchange)


async def stall(exchange: Exchange) -> None:
    """Commit, and never answer."""
    await exchange.request()
    await _gone(exchange)


async def head_then_stall(exchange: Exchange) -> None:
    """Commit, send a head that promises a body, and nothing more."""
    await exchange.request()
    await exchange.send_head()
    await _gone(exchange)


def partial_body(sent: bytes = b"part", length: int | None = 100, end: str = "reset") -> Step:
    """Commit, answer with less body than promised, then `reset`, `close` or `stall`."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send_head(200, None, length)
        await exchange.send_data(sent)
        await _end(exchange, end)

    return step


def raw(data: bytes, end: str = "close") -> Step:
    """Commit, send bytes that are no HTTP, then `reset`, `close` or `stall`."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        exchange.connection.write(data)
        await exchange.connection.flush()
        await _end(exchange, end)

    return step


garbage = raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n\xff\xff")


def answer_then_close(after: float = 0.0, announced: bool = False, then: Step = ok) -> Step:
    """Answer, and FIN `after` so many idle seconds; `announced` by `Connection: close` (HTTP/1.1)."""

    async def step(exchange: Exchange) -> None:
        exchange.closing = announced
        await then(exchange)
        if after:
            await asyncio.sleep(after)
        exchange.connection.close()

    return step


def informational(status: int = 103, headers: Fields | None = None, then: Step = ok) -> Step:
    """A 1xx response first."""

    async def step(exchange: Exchange) -> None:
        await exchange.head()
        if isinstance(exchange, Http2Exchange):
            await exchange.send_informational(status, headers or [])
        else:
            await exchange.send_head(status, headers)
        await then(exchange)

    return step


def early_answer(status: int = 413, body: bytes = b"too much") -> Step:
    """Answer at the head, without reading the body; the request is not committed."""

    async def step(exchange: Exchange) -> None:
        await exchange.head()
        exchange.closing = True
        await exchange.send_head(status, None, len(body))
        await exchange.send_data(body, end=True)
        if isinstance(exchange, Http2Exchange):
            exchange.abandon(NO_ERROR)
        else:
            # A close with unread bytes would be a RST, which can overtake the answer.
            exchange.connection.half_close()
            await _gone(exchange)

    return step


def gated(gate: asyncio.Event, then: Step = ok) -> Step:
    """Commit, wait for the gate, and go on."""

    async def step(exchange: Exchange) -> None:
        await exchange.request()
        await gate.wait()
        await then(exchange)

    return step


def rst_stream(code: int, commit: bool = False) -> Step:
    """RST_STREAM with a code, before or after the request is committed."""

    async def step(exchange: Exchange) -> None:
        await (exchange.request() if commit else exchange.head())
        exchange.abandon(code)

    return step


refused_stream = rst_stream(REFUSED_STREAM)


def goaway(served: bool = False, code: int = NO_ERROR, then: Step = ok) -> Step:
    """GOAWAY at this stream. `served`: it is the last one that is served, and gets `then`. Otherwise
    it lies above the last id: provably not processed (RFC 9113 8.7); earlier streams go on."""

    async def step(exchange: Exchange) -> None:
        stream = (await exchange.head()).stream
        _h2(exchange).goaway(stream if served else max(stream - 2, 0), code)
        if served:
            await then(exchange)
        await exchange.connection.flush()

    return step


async def reset_at_accept(connection: Connection) -> None:
    """For `accepts`: RST before anything is read."""
    connection.reset()


async def close_at_accept(connection: Connection) -> None:
    """For `accepts`: FIN before anything is read."""
    connection.close()


async def never_read(connection: Connection) -> None:
    """For `accepts`: leave everything in the socket's buffer."""
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def _end(exchange: Exchange, end: str) -> None:
    if end == "stall":
        await _gone(exchange)
    elif end == "reset":
        exchange.connection.reset()
    else:
        exchange.connection.close()


async def _gone(exchange: Exchange) -> None:
    if isinstance(exchange, Http2Exchange):
        await exchange.side.window(lambda: False, exchange)
    else:
        await cast(Http1Exchange, exchange).connection.stall()


def _h2(exchange: Exchange) -> Http2Exchange:
    assert isinstance(exchange, Http2Exchange), "this step is for HTTP/2"
    return exchange


def _status(code: int, text: str) -> Fields:
    return [(b"grpc-status", b"%d" % code), (b"grpc-message", text.encode())]
