"""Answers of HTTP/2 whose end only its frames tell: a client of HTTP/1.1 has to see where they end too."""

import pytest

from tests.security.http1.answers import over_http1
from tests.security.http1.client import say
from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

STATUSES = [b"200", b"204", b"205", b"304", b"404", b"503"]


@pytest.mark.parametrize("later", [False, True], ids=["with its head", "later"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
@pytest.mark.parametrize("status", STATUSES)
async def test_an_answer_without_a_body_has_an_end(status: bytes, method: bytes, later: bool) -> None:
    async def serve(peer: Peer) -> None:
        assert await peer.reader.readexactly(len(f.PREFACE)) == f.PREFACE
        await peer.send(f.settings())
        while (head := await peer.until(f.HEADERS)) is not None:
            await peer.send(f.headers(head.stream, [(b":status", status)], end=not later))
            if later:
                await peer.alive()  # the head was read
                await peer.send(f.data(head.stream, end=True))

    async with raw_server(serve) as port, running(proxied(port)) as app:
        listener = app.address("in").port
        answer = await over_http1(listener, method)
        assert (answer.status, answer.body) == (int(status), b"")
        # Another request on the same connection: nothing was left in between.
        asked = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
        said = await say(listener, asked * 2, 2)
        assert said.statuses == [int(status)] * 2
