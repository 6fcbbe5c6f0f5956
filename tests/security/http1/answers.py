"""A client's view of an answer, whichever version it came in."""

import asyncio
import re
from typing import Final, NamedTuple

import h11

from tests.security.http2 import frames as f

WITHIN: Final = 10.0


class Answer(NamedTuple):
    """The final status, its fields and trailers, how many 1xx came before it, and the body:
    None where the answer was broken off."""

    status: int
    body: bytes | None
    fields: dict[bytes, bytes]
    trailers: dict[bytes, bytes]
    interim: int


async def over_http1(port: int, method: bytes) -> Answer:
    """Ask with HTTP/1.1, read with h11."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = h11.Connection(h11.CLIENT)
    request = h11.Request(method=method, target="/", headers=[("host", "a")])
    writer.write(client.send(request) + client.send(h11.EndOfMessage()))
    status, body, interim = 0, b"", 0
    fields: dict[bytes, bytes] = {}
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                event = client.next_event()
                if event is h11.NEED_DATA:
                    client.receive_data(await reader.read(65536))
                elif isinstance(event, h11.InformationalResponse):
                    interim += 1
                elif isinstance(event, h11.Response):
                    status, fields = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return Answer(status, body, fields, dict(event.headers), interim)
                else:
                    raise AssertionError(f"unexpected: {event}")
    except (h11.RemoteProtocolError, ConnectionError):
        return Answer(status, None, fields, {}, interim)
    finally:
        writer.close()


async def over_http2(port: int, method: bytes) -> Answer:
    """Ask with frames, read frames."""
    peer = await f.connect(port)
    await peer.send(f.headers(1, [(b":method", method), *f.GET[1:3], (b":authority", b"a")], end=True))
    status, body, interim = 0, b"", 0
    fields: dict[bytes, bytes] = {}
    trailers: dict[bytes, bytes] = {}
    try:
        async with asyncio.timeout(WITHIN):
            while (got := await peer.read_frame()) is not None:
                if got.stream != 1:
                    continue
                if got.kind == f.HEADERS:
                    head = peer.decode(got)
                    if b":status" not in head:
                        trailers = head
                    elif re.fullmatch(rb"1\d\d", head[b":status"]):
                        interim += 1
                    else:
                        status, fields = int(head[b":status"]), head
                elif got.kind == f.DATA:
                    body += got.payload
                elif got.kind == f.RST_STREAM:
                    break
                if got.end:
                    return Answer(status, body, fields, trailers, interim)
    finally:
        peer.close()
    return Answer(status, None, fields, trailers, interim)
