"""RFC 7541 6.2.3: what a client keeps out of every field table stays out of the endpoint's, also
where the head goes on changed."""

import asyncio

import ngh2
import pytest

from tests.support.sidecar import running
from tests.wire.test_h2_forward import Client

WITHIN = 10.0
CONFIG = """
admin: {bind: 127.0.0.1:0}
clusters:
  web: {endpoints: ["127.0.0.1:%d"], protocol: http2}
listeners:
  in:
    bind: 127.0.0.1:0
    routes:
      - {match: {prefix: /added}, to: web, headers: {request: {set: {x-added: "1"}}}}
      - {match: {prefix: /moved}, to: web, rewrite: {prefix: /there}}
      - {to: web}
"""


class Endpoint:
    """Answers 200 and keeps the header lists."""

    def __init__(self) -> None:
        self.lists: list[tuple[tuple[bytes, bytes], ...]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ngh2.Connection(ngh2.Role.SERVER)
        connection.initiate_connection()
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                writer.close()
                return
            connection.receive_data(data)
            for event in connection.events():
                if isinstance(event, ngh2.RequestReceived):
                    self.lists.append(event.headers)
                    connection.send_response(event.stream_id, [(b":status", b"200")], end_stream=True)


@pytest.mark.parametrize("more", [[], [(b"cookie", b"a=1"), (b"cookie", b"b=2")]], ids=["usual", "crumbs"])
@pytest.mark.parametrize("path", [b"/plain", b"/added", b"/moved"])
@pytest.mark.parametrize("secret", [set(), {b":authority"}, {b":path"}, {b":authority", b":path"}])
async def test_marks_of_pseudo_header_fields(path: bytes, secret: set[bytes], more: list[tuple[bytes, bytes]]) -> None:
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    async with server, running(CONFIG % server.sockets[0].getsockname()[1]) as app, asyncio.timeout(WITHIN):
        reader, writer = await asyncio.open_connection("127.0.0.1", app.address("in").port)
        client = Client(reader, writer)
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"), *more]
        marked = [ngh2.NeverIndexedHeader(*pair) if pair[0] in secret else pair for pair in fields]
        client.h2.send_request(marked, end_stream=True)
        await client.until(lambda events: any(isinstance(event, ngh2.StreamClosed) for event in events))
        writer.close()
    (received,) = endpoint.lists
    marked = [pair for pair in received if isinstance(pair, ngh2.NeverIndexedHeader)]
    # Without cookies: libnghttp2 keeps short ones out by itself.
    assert {name for name, _ in marked if name != b"cookie"} == secret
    assert dict(received)[b":path"] == path.replace(b"/moved", b"/there")
