"""HPACK bombs, from clients and from servers: a bounded answer, bounded memory, nothing upstream, and
others are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.security.http1.answers import over_http2
from tests.security.http2 import frames as f
from tests.security.http2.bombs import ALLOWED, BROKEN, LARGE, Bomb
from tests.security.http2.cases import check, goaway
from tests.security.http2.frames import Peer
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

OK = [(b":status", b"200")]
ANSWER = [*OK, (b"content-length", b"2")]
AT_ONCE = 5  # connections
MEMORY = 50 * 1024 * 1024
ENDING = [bomb for bomb in (*LARGE, *BROKEN) if bomb.answer < 100]


class Served:
    """What a sidecar's endpoint was asked."""

    connections = 0
    requests = 0


@asynccontextmanager
async def sidecar_before(served: Served) -> AsyncIterator[int]:
    """A sidecar in front of an endpoint that answers everything; the port of its listener."""

    async def serve(peer: Peer) -> None:
        served.connections += 1
        assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
        await peer.send(f.settings((3, 100)))
        while (got := await peer.until(f.HEADERS)) is not None:
            served.requests += 1
            await peer.send(f.headers(got.stream, ANSWER), f.data(got.stream, b"ok", end=True))

    async with raw_server(serve) as port, running(proxied(port)) as app:
        yield app.address("in").port


@pytest.mark.parametrize("bomb", [*LARGE, *BROKEN], ids=str)
async def test_a_bomb_of_a_client_reaches_nobody_and_hurts_nobody(bomb: Bomb) -> None:
    served = Served()
    async with sidecar_before(served) as port, asyncio.timeout(50):
        bystander, *peers = [await f.connect(port) for _ in range(1 + AT_ONCE)]
        try:
            before = _peak(anew=True)
            sent = bomb.frames(1, f.GET)
            await asyncio.gather(*(peer.send(sent) for peer in peers))
            await asyncio.gather(*(_check(peer, bomb) for peer in peers))
            assert _peak() - before < MEMORY
            assert served.connections == 0, "not one byte upstream"
            await bystander.send(f.headers(1, f.GET, end=True))
            answer = await bystander.until(f.HEADERS, 1)
            assert answer is not None
            assert bystander.decode(answer)[b":status"] == b"200"
            assert served.requests == 1
        finally:
            for peer in (*peers, bystander):
                peer.close()


async def _check(peer: Peer, bomb: Bomb) -> None:
    if bomb.answer < 100:
        await check(peer, goaway(bomb.answer))
        return
    answer = await peer.until(f.HEADERS, 1)
    assert answer is not None, "the stream alone is refused"
    assert peer.decode(answer)[b":status"] == b"%d" % bomb.answer
    assert await peer.alive()


def _peak(anew: bool = False) -> int:
    """The most bytes that this process has had in memory; `anew` begins to look now."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (row,) = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:")]
    return int(row.split()[1]) * 1024


@pytest.mark.parametrize("bomb", ENDING, ids=str)
async def test_a_bomb_of_a_server_costs_its_connection_alone(bomb: Bomb) -> None:
    connections = 0
    checked = asyncio.Event()

    async def serve(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        first = connections == 1
        assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
        await peer.send(f.settings((3, 100)))
        got = await peer.until(f.HEADERS)
        assert got is not None
        if not first:
            await peer.send(f.headers(got.stream, ANSWER), f.data(got.stream, b"ok", end=True))
            await peer.until_closed()
            return
        try:
            await peer.send(bomb.frames(got.stream, OK))
            await check(peer, goaway(bomb.answer))
        finally:
            checked.set()

    async with raw_server(serve) as port, running(proxied(port)) as app, asyncio.timeout(50):
        before = _peak(anew=True)
        said = await over_http2(app.address("in").port, b"GET")
        assert said.status == 502
        await checked.wait()
        assert _peak() - before < MEMORY
        said = await over_http2(app.address("in").port, b"GET")
        assert (said.status, said.body) == (200, b"ok")
    assert connections == 2


@pytest.mark.parametrize("block", ALLOWED.values(), ids=ALLOWED.keys())
async def test_what_is_just_allowed_is_served(block: bytes) -> None:
    # RFC 7541 4.2 has two table sizes mean something; more are no error, and cost what as many bytes cost.
    served = Served()
    sizes = block if block.startswith((b"\x20", b"\x3f")) else b""
    async with sidecar_before(served) as port, asyncio.timeout(50):
        peer = await f.connect(port)
        whole = sizes + f.block(f.GET) + (b"" if sizes else block)
        await peer.send(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, whole))
        answer = await peer.until(f.HEADERS, 1)
        assert answer is not None
        assert peer.decode(answer)[b":status"] == b"200"
        peer.close()
    assert served.requests == 1
