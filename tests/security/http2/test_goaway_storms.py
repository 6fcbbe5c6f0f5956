"""HTTP/2 endpoints that say GOAWAY again and again: no request waits for ever, nothing is dialled in a loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.security.http1.answers import over_http2
from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

WITHIN = 20.0
OK = [(b":status", b"200"), (b"content-length", b"2")]


@asynccontextmanager
async def running_before(port: int) -> AsyncIterator[int]:
    """A sidecar before that server; the port of its listener."""
    async with running(proxied(port)) as app:
        yield app.address("in").port


async def greeted(peer: Peer, streams: int = 100) -> None:
    """The preface came: SETTINGS go out."""
    assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
    await peer.send(f.settings((3, streams)))


async def first_request(peer: Peer) -> int:
    """The stream of the first request that comes; 0 when none does."""
    got = await peer.until(f.HEADERS)
    return got.stream if got is not None else 0


def answer(stream: int) -> bytes:
    return f.headers(stream, OK) + f.data(stream, b"ok", end=True)


async def behind_the_answer(peer: Peer) -> None:
    if stream := await first_request(peer):
        await peer.send(answer(stream), f.goaway(stream) * 10_000)
        await peer.until_closed()


async def before_the_answer(peer: Peer) -> None:
    if stream := await first_request(peer):
        await peer.send(f.goaway(0x7FFFFFFF) * 4, f.goaway(stream) * 4, answer(stream))
        await peer.until_closed()


async def unlike_each_other(peer: Peer) -> None:
    if stream := await first_request(peer):
        await peer.send(answer(stream), *(f.goaway(last) for last in range(2 * stream + 10_000, stream, -2)))
        await peer.until_closed()


@pytest.mark.parametrize("serve", [behind_the_answer, before_the_answer, unlike_each_other])
async def test_a_storm_around_an_answer_costs_its_connection_alone(serve: Callable[[Peer], Awaitable[None]]) -> None:
    connections = 0

    async def one(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await greeted(peer)
        await serve(peer)

    async with raw_server(one) as port, running_before(port) as listener, asyncio.timeout(WITHIN):
        for _ in range(3):
            said = await over_http2(listener, b"GET")
            assert (said.status, said.body) == (200, b"ok")
    assert connections == 3


async def refuses_all(peer: Peer) -> None:
    await peer.send(f.goaway(0))
    await peer.until_closed()


async def refuses_what_was_sent(peer: Peer) -> None:
    if await first_request(peer):
        await peer.send(f.goaway(0))
        await peer.until_closed()


async def allows_no_stream(peer: Peer) -> None:
    await peer.until_closed()


async def says_that_it_is_calm(peer: Peer) -> None:
    await peer.send(f.goaway(0, f.ENHANCE_YOUR_CALM))
    peer.close()


@pytest.mark.parametrize("serve", [allows_no_stream, refuses_all, refuses_what_was_sent, says_that_it_is_calm])
async def test_a_server_that_takes_no_stream_is_not_dialled_in_a_loop(serve: Callable[[Peer], Awaitable[None]]) -> None:
    connections = 0

    async def one(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await greeted(peer, 0 if serve is allows_no_stream else 100)
        await serve(peer)

    async with raw_server(one) as port, running_before(port) as listener, asyncio.timeout(WITHIN):
        said = await over_http2(listener, b"GET")
        assert said.status == 502
    assert 1 <= connections <= 3


async def test_what_was_wrong_is_noted() -> None:
    async def allows_none(peer: Peer) -> None:
        await greeted(peer, 0)
        await peer.until_closed()

    async def pushes(peer: Peer) -> None:
        await greeted(peer)
        if stream := await first_request(peer):
            await peer.send(f.push_promise(stream, 2))
            await peer.until_closed()

    async def resets_badly(peer: Peer) -> None:
        await greeted(peer)
        if stream := await first_request(peer):
            await peer.send(f.data(stream, b"before the head"))
            await peer.until_closed()

    async def storms(peer: Peer) -> None:
        await greeted(peer)
        if await first_request(peer):
            await peer.send(f.ping() * 20_000)
            await peer.until_closed()

    async def resets(peer: Peer) -> None:
        await greeted(peer)
        if stream := await first_request(peer):
            await peer.send(f.reset(stream, f.INTERNAL_ERROR))
            await peer.until_closed()

    for serve, words in (
        (resets, "reset (it reset the stream: INTERNAL_ERROR)"),
        (allows_none, "connect_failed (it allows no streams)"),
        (pushes, "protocol_error (PROTOCOL_ERROR)"),
        (resets_badly, "protocol_error (PROTOCOL_ERROR)"),
        (storms, "protocol_error (ENHANCE_YOUR_CALM, ping)"),
    ):
        async with raw_server(serve) as port, running(proxied(port)) as app, asyncio.timeout(WITHIN):
            said = await over_http2(app.address("in").port, b"GET")
            assert said.status == 502
            (record,) = app.notable.latest(1)
            assert words in record["why"]
