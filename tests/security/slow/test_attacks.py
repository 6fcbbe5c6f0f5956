"""Slow clients by the hundred against a real sidecar, beside somebody who just wants to be served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from sidecar.app import App
from tests.chaos.watching import eventually, metrics
from tests.support.http_service import HttpService
from tests.support.sidecar import running
from tests.support.slow_clients import BODY, HEADER, MODES, PREFACE, READ, SILENT, SlowClient

ATTACKERS = 150
READERS = 30  # each of whom is sent megabytes
# Of a bystander, in seconds: by far more than it needs, on a machine that does much else as well.
PATIENCE = aiohttp.ClientTimeout(total=5)
CUT_WITHIN = 12.0

LISTENER = """
admin: {bind: 127.0.0.1:0}
clusters:
  web: {endpoints: ["%s"]%s}
listeners:
  in:
    bind: 127.0.0.1:0
    timeouts: {first: 1s, header: 1s, body: 1s, write: 1s, idle: 1m, min_rate: 100B}
    routes: [{to: web}]
"""
PATHS = {READ: b"/bytes/8000000", BODY: b"/echo"}


@asynccontextmanager
async def sidecar(service: HttpService, more: str = "") -> AsyncIterator[App]:
    async with running(LISTENER % (service.address, more)) as app:
        yield app


async def slow(mode: str, app: App, count: int = ATTACKERS) -> list[SlowClient]:
    clients = [SlowClient(mode, PATHS.get(mode, b"/echo"), every=0.2) for _ in range(count)]
    for client in clients:
        await client.start(app.address("in").port)
    return clients


async def cut_off(clients: list[SlowClient], app: App) -> None:
    """Until the sidecar is rid of them. Who reads slowly does not see it for a long time."""
    if clients[0].mode == READ:
        await eventually(lambda: app.runtime.slow_clients["write"] == len(clients), "all are cut off")
        return
    async with asyncio.timeout(CUT_WITHIN):
        for client in clients:
            await client.gone.wait()


@pytest.mark.parametrize("mode", MODES)
async def test_normal_traffic_is_untouched_and_the_slow_are_cut_off(mode: str, http_service: HttpService) -> None:
    async with (
        sidecar(http_service) as app,
        aiohttp.ClientSession(f"http://{app.address('in')}", timeout=PATIENCE) as bystander,
    ):
        clients = await slow(mode, app, ATTACKERS if mode != READ else READERS)
        ending = asyncio.create_task(cut_off(clients, app))
        served = 0
        try:
            while not ending.done() or served < 50:
                async with bystander.get("/bytes/100") as response:
                    assert response.status == 200
                    assert len(await response.read()) == 100
                served += 1
                await asyncio.sleep(0.01)
            await ending
        finally:
            for client in clients:
                await client.stop()
        if mode in (HEADER, BODY):
            assert all(client.said.startswith(b"HTTP/1.1 408 ") for client in clients)
        counted = await metrics(app.address("admin"))
        expected = {HEADER: "header", PREFACE: "header", BODY: "body", READ: "write"}.get(mode, "none")
        cut = 0 if mode == SILENT else len(clients)
        assert counted.total("sidecar_slow_clients_total") == cut
        assert counted.total("sidecar_slow_clients_total", what=expected) == cut
        assert counted.total("sidecar_local_replies_total", reason="too_slow") == cut * (mode in (HEADER, BODY))
        assert counted.total("sidecar_local_replies_total", reason="bad_request") == 0
        assert counted.total("sidecar_requests_total", code="408") == cut * (mode == BODY)
        assert counted.total("sidecar_connections", side="downstream") == 1
        assert counted.total("sidecar_breaker_state") == 0


async def test_slow_uploads_open_no_breaker(http_service: HttpService) -> None:
    """When `timeouts.request` is over before the listener's patience, it is still the client."""
    more = ", timeouts: {request: 300ms}, breaker: {consecutive: 3, min_requests: 3}"
    async with sidecar(http_service, more) as app, aiohttp.ClientSession(f"http://{app.address('in')}") as bystander:
        clients = await slow(BODY, app, 20)
        await cut_off(clients, app)
        assert all(client.said.startswith(b"HTTP/1.1 408 ") for client in clients)
        assert all(b"x-sidecar-error: too_slow" in client.said for client in clients)
        async with bystander.get("/bytes/100") as response:
            assert response.status == 200
        counted = await metrics(app.address("admin"))
        assert counted.total("sidecar_breaker_transitions_total") == 0
        assert counted.total("sidecar_attempts_total", verdict="ignored") == 20
        assert counted.total("sidecar_slow_clients_total", what="body") == 20


async def test_streams_that_are_silent_live_on(http_service: HttpService) -> None:
    async with (
        sidecar(http_service) as app,
        aiohttp.ClientSession(f"http://{app.address('in')}") as client,
        client.get("/sse?id=a&events=2") as events,
        client.get("/slow?ms=3500") as polled,
    ):
        assert polled.status == 200  # thrice as long as any bound of the listener
        http_service.release("a", 2)
        assert (await events.read()).count(b"data:") == 2


async def test_a_listener_takes_so_many_clients_and_no_more(http_service: HttpService) -> None:
    config = LISTENER.replace("    routes:", "    max_connections: 3\n    routes:")
    async with running(config % (http_service.address, "")) as app:
        streams = [await asyncio.open_connection("127.0.0.1", app.address("in").port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", app.address("in").port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"x-sidecar-error: overloaded" in answer
        counted = await metrics(app.address("admin"))
        assert counted.total("sidecar_connections_refused_total", reason="listener") == 1
        for _, each in (*streams, (reader, writer)):
            each.close()
            await each.wait_closed()
