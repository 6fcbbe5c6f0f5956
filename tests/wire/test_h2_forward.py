"""CONNECT in a stream of HTTP/2, at a listener in forward mode."""

import asyncio
from collections.abc import Callable
from typing import Any

import ngh2
import pytest

from sidecar.app import App
from tests.support.sidecar import running

CONFIG = """\
admin: {{bind: 127.0.0.1:0}}
clusters:
  echo: {{endpoints: ["127.0.0.1:{port}"]}}
listeners:
  proxy:
    bind: 127.0.0.1:0
    mode: forward
    routes: [{{match: {{host: echo.internal}}, to: echo}}]
"""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


class Client:
    """An HTTP/2 client that reads until it has what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT)
        self.h2.initiate_connection()
        self.events: list[Any] = []

    async def until(self, found: Callable[[list[Any]], bool]) -> None:
        while True:
            self._writer.write(self.h2.data_to_send())
            if found(self.events):
                return
            data = await self._reader.read(65536)
            assert data, self.events
            self.h2.receive_data(data)
            self.events += self.h2.events()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


@pytest.mark.parametrize(("host", "status"), [(b"echo.internal:80", b"200"), (b"other.internal:80", b"403")])
async def test_connect(host: bytes, status: bytes) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, running(CONFIG.format(port=server.sockets[0].getsockname()[1])) as app:
        crashes = watch_crashes(app)
        address = app.address("proxy")
        reader, writer = await asyncio.open_connection(address.host, address.port)
        client = Client(reader, writer)
        stream_id = client.h2.send_request([(b":method", b"CONNECT"), (b":authority", host)])
        await client.until(lambda events: bool(client.of(ngh2.ResponseReceived)))
        assert dict(client.of(ngh2.ResponseReceived)[0].headers)[b":status"] == status
        if status == b"200":
            client.h2.send_data(stream_id, b"ping", end_stream=False)
            await client.until(lambda events: bool(client.of(ngh2.DataReceived)))
            assert client.of(ngh2.DataReceived)[0].data == b"ping"
        writer.close()
        await writer.wait_closed()
        assert crashes == []


def watch_crashes(app: App) -> list[BaseException]:
    crashes: list[BaseException] = []
    app.runtime.on_crash = crashes.append
    return crashes
