"""HTTP/2 endpoints that flood us behind an answer with frames that say nothing: the connection ends, and that alone."""

import asyncio

import pytest

from tests.security.http1.answers import over_http2
from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer
from tests.security.http2.test_goaway_storms import answer, first_request, greeted
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

WITHIN = 20.0
ALTSVC, ORIGIN = 0xA, 0xC
# By what one of its frames is, and how it is called.
FLOODS = {
    "ALTSVC": (f.frame(ALTSVC, 0, 0, b"\x00\x01aclear"), "useless_frames"),
    "ORIGIN": (f.frame(ORIGIN, 0, 0, b""), "useless_frames"),
    "RST_STREAM of a stream that has ended": (f.reset(1), "rapid_reset"),
    "frames of an unknown type": (f.frame(f.UNKNOWN, 0, 0, b"x"), "useless_frames"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_behind_an_answer_ends_its_connection(flood: str) -> None:
    frame, reason = FLOODS[flood]
    ended = asyncio.Event()

    async def floods(peer: Peer) -> None:
        await greeted(peer)
        if stream := await first_request(peer):
            await peer.send(answer(stream))
            while not peer.closed:
                await peer.send(frame * 1000)
            ended.set()

    async with raw_server(floods) as port, running(proxied(port)) as app, asyncio.timeout(WITHIN):
        said = await over_http2(app.address("in").port, b"GET")
        assert (said.status, said.body) == (200, b"ok")
        await ended.wait()
        assert app.runtime.abuse.counts["upstream", reason] == 1


async def test_one_reset_of_each_ended_stream_is_honest() -> None:
    """As a server sends it behind an answer that did not wait for the request (RFC 9113 8.1)."""
    connections = 0

    async def one(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await greeted(peer)
        while stream := await first_request(peer):
            await peer.send(answer(stream), f.reset(stream, f.NO_ERROR))

    async with raw_server(one) as port, running(proxied(port)) as app, asyncio.timeout(WITHIN):
        for _ in range(100):
            said = await over_http2(app.address("in").port, b"GET")
            assert (said.status, said.body) == (200, b"ok")
    assert connections == 1
