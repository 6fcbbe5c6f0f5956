"""WebSocket through the sidecar, straight and by forward proxy, with aiohttp on both ends."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from sidecar.app import App
from tests.chaos.watching import eventually
from tests.interop.setups import QUICK, TIMEOUT, admin, config, session
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running

BIG = 3 << 20


@pytest.fixture
async def app(http_service: HttpService) -> AsyncIterator[App]:
    forward = {"bind": "127.0.0.1:0", "mode": "forward", "routes": [{"match": {"host": ["web.internal"]}, "to": "web"}]}
    out = {"bind": "127.0.0.1:0", "routes": [{"to": "web"}]}
    async with running(config([http_service.address], listeners={"out": out, "proxy": forward})) as app:
        yield app


@pytest.fixture(params=["straight", "proxy"])
async def socket(app: App, request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """An open WebSocket to the echo service."""
    options: dict[str, Any] = {"max_msg_size": 0, "protocols": ("echo",)}
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        if request.param == "straight":
            opening = client.ws_connect(f"http://{app.address('out')}/websocket", **options)
        else:
            proxy = f"http://{app.address('proxy')}"
            opening = client.ws_connect("http://web.internal/websocket", proxy=proxy, **options)
        async with opening as opened:
            yield opened


async def test_text_binary_and_ping_go_both_ways(socket: aiohttp.ClientWebSocketResponse) -> None:
    assert socket.protocol == "echo"
    await socket.send_str("grüße")
    assert await socket.receive_str() == "grüße"
    await socket.send_bytes(b"\x00\xff")
    assert await socket.receive_bytes() == b"\x00\xff"
    for number in range(100):
        await socket.send_str(str(number))
    assert [await socket.receive_str() for _ in range(100)] == [str(number) for number in range(100)]


async def test_a_big_message_comes_back_whole(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_bytes(pattern(BIG))
    assert await socket.receive_bytes() == pattern(BIG)


async def test_the_clients_close_code_reaches_the_service() -> None:
    seen: list[int | None] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        served = web.WebSocketResponse()
        await served.prepare(request)
        async for _ in served:
            pass
        seen.append(served.close_code)
        return served

    application = web.Application()
    application.router.add_get("/", serve)
    async with TestServer(application) as server, running(config([f"127.0.0.1:{server.port}"])) as app:
        async with session(app) as client, client.ws_connect("/") as socket:
            await socket.close(code=4321)
        assert seen == [4321]


async def test_the_services_close_code_reaches_the_client() -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        served = web.WebSocketResponse()
        await served.prepare(request)
        await served.close(code=4001, message=b"enough")
        return served

    application = web.Application()
    application.router.add_get("/", serve)
    async with (
        TestServer(application) as server,
        running(config([f"127.0.0.1:{server.port}"])) as app,
        session(app) as client,
        client.ws_connect("/") as socket,
    ):
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "enough")


async def test_a_refused_upgrade_is_an_ordinary_answer(http_service: HttpService) -> None:
    async with running(config([http_service.address])) as app, session(app) as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/status/403")
        assert refused.value.status == 403
        async with client.get("/bytes/5") as response:
            assert await response.read() == pattern(5)


async def test_the_handshake_is_balanced_and_retried_and_the_open_one_counted(http_service: HttpService) -> None:
    # Given one endpoint that refuses connections and one that works
    cluster = {"retry": dict(QUICK), "balance": {"policy": "round_robin"}}
    async with running(config(["127.0.0.1:1", http_service.address], cluster)) as app, session(app) as client:
        for _ in range(4):
            # When a WebSocket is opened
            async with client.ws_connect("/websocket") as socket:
                await socket.send_str("x")
                # Then it works, and is under way for as long as it is open
                assert await socket.receive_str() == "x"
                # (the one before it ends when its connection to the service has)
                await eventually(lambda: app.runtime.in_flight == 1, "one is under way")
                assert (await admin(app, "/api/clusters/web"))["requests"]["in_flight"] == 1
        assert http_service.calls["/websocket"] == 4


async def test_an_endpoint_that_dies_ends_the_clients_socket() -> None:
    accept = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    async with (
        FaultServer(faults.raw(accept, "reset")) as server,
        running(config([server.address])) as app,
        session(app) as client,
        # aiohttp would refuse an answer without Sec-WebSocket-Accept: the bytes are the test's own.
        client.get("/", headers={"connection": "upgrade", "upgrade": "websocket"}) as response,
    ):
        assert response.status == 101
        assert response.connection is not None
        assert response.connection.protocol is not None
        assert response.connection.protocol.closed is not None
        with pytest.raises(aiohttp.ClientConnectionError):
            await response.connection.protocol.closed
