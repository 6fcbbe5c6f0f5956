"""What a client's connection alone is told goes on to no endpoint of HTTP/2 either."""

import asyncio
from typing import Final

import hpack
import pytest

from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

WITHIN: Final = 10.0

# What is sent beside the pseudo-header fields, and what of it goes on.
CASES: Final[dict[str, tuple[f.Fields, f.Fields]]] = {
    "http2-settings": ([(b"http2-settings", b"AAMAAABk")], []),
    "proxy-authorization": ([(b"proxy-authorization", b"Basic eA==")], []),
    "both among others": (
        [(b"x-a", b"1"), (b"proxy-authorization", b"Basic eA=="), (b"http2-settings", b"AAMAAABk"), (b"x-b", b"2")],
        [(b"x-a", b"1"), (b"x-b", b"2")],
    ),
    "both among repeated ones": (
        [(b"x-a", b"1"), (b"proxy-authorization", b"Basic eA=="), (b"http2-settings", b"AAMAAABk"), (b"x-a", b"2")],
        [(b"x-a", b"1"), (b"x-a", b"2")],
    ),
    "a host like the authority": ([(b"host", b"service.test")], []),
    "te of trailers": ([(b"te", b"trailers")], [(b"te", b"trailers")]),
}


@pytest.mark.parametrize(("sent", "got"), CASES.values(), ids=CASES.keys())
async def test_fields_of_one_hop_end_here(sent: f.Fields, got: f.Fields) -> None:
    heads: asyncio.Queue[list[tuple[bytes, bytes]]] = asyncio.Queue()

    async def serve(peer: Peer) -> None:
        assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
        await peer.send(f.settings())
        head = await peer.until(f.HEADERS)
        assert head is not None
        fields = hpack.Decoder().decode(head.payload, raw=True)
        heads.put_nowait([(bytes(name), bytes(value)) for name, value in fields])
        await peer.send(f.headers(head.stream, [(b":status", b"200")], end=True))
        await peer.until_closed()

    async with raw_server(serve) as port, running(proxied(port)) as app:
        client = await f.connect(app.address("in").port)
        await client.send(f.headers(1, [*f.GET, *sent], end=True))
        fields = await asyncio.wait_for(heads.get(), WITHIN)
        client.close()
    assert sorted(fields[:4]) == sorted(f.GET)
    assert fields[4:] == [*got]
