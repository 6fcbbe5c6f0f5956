"""Limits are answered at once, and nothing hangs when nobody is left."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.chaos.watching import endpoint, eventually, watching
from tests.interop.setups import QUICK, admin, config, session
from tests.support.fault_server import FaultServer, silent_port
from tests.support.http_service import HttpService
from tests.support.processes import Processes
from tests.support.sidecar import running


async def _overloaded(client: aiohttp.ClientSession, path: str = "/echo") -> None:
    async with client.get(path) as response:
        assert (response.status, response.headers["x-sidecar-error"]) == (503, "overloaded")
        assert (await response.json())["cluster"] == "web"


async def test_requests_beyond_their_limit_are_refused_at_once(http_service: HttpService) -> None:
    async with (
        running(config([http_service.address], {"limits": {"requests": 2}})) as app,
        session(app) as client,
        client.get("/stream?id=a") as first,
        client.get("/stream?id=b") as second,
    ):
        await _overloaded(client)
        for stream, response in (("a", first), ("b", second)):
            http_service.release(stream, 3)
            assert len(await response.read()) == 24
        async with client.get("/echo") as response:
            assert response.status == 200


async def test_waiting_beyond_the_pending_limit_is_refused_at_once(http_service: HttpService) -> None:
    cluster = {"limits": {"connections": 1, "pending": 1}, "timeouts": {"connect": "20s"}}
    async with (
        running(config([http_service.address], cluster)) as app,
        session(app) as client,
        client.get("/stream?id=a") as first,
    ):
        # One holds the only connection, one waits for it.
        waiting = asyncio.create_task(client.get("/bytes/5")._coro)
        pending = app.runtime.snapshot.clusters["web"].pending
        await eventually(lambda: pending.in_use == 1, "a request waits")
        await _overloaded(client)
        http_service.release("a", 3)
        await first.read()
        async with await waiting as response:
            assert response.status == 200


async def test_a_wait_for_a_connection_is_bounded_by_the_connect_timeout(http_service: HttpService) -> None:
    cluster = {"limits": {"connections": 1}, "timeouts": {"connect": "50ms"}, "retry": dict(QUICK)}
    async with (
        running(config([http_service.address], cluster)) as app,
        session(app) as client,
        client.get("/stream?id=a") as first,
    ):
        await _overloaded(client)
        http_service.release("a", 3)
        await first.read()
        async with client.get("/echo") as response:
            assert response.status == 200


async def test_the_connection_limit_is_kept_under_load(http_service: HttpService) -> None:
    cluster = {"limits": {"connections": 4}}
    async with (
        running(config([http_service.address], cluster)) as app,
        session(app, connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        most = 0

        async def call() -> int:
            nonlocal most
            async with client.get("/slow?ms=2") as response:
                most = max(most, app.runtime.snapshot.clusters["web"].connections.in_use)
                return response.status

        assert set(await asyncio.gather(*(call() for _ in range(200)))) == {200}
        assert most == 4


@pytest.mark.slow
async def test_a_thousand_slow_requests_at_once(http_service: HttpService) -> None:
    # Callers, sidecar and service share one event loop here: a thousand dials may take it more than a second.
    async with (
        running(config([http_service.address], {"timeouts": {"connect": "20s"}})) as app,
        session(app, connector=aiohttp.TCPConnector(limit=0)) as client,
    ):

        async def call(number: int) -> bytes:
            async with client.get(f"/stream?id={number}&chunks=1") as response:
                return await response.read()

        calls = [asyncio.create_task(call(number)) for number in range(1000)]
        await eventually(lambda: app.runtime.in_flight == http_service.calls["/stream"] == 1000, "all are under way")
        for number in range(1000):
            http_service.release(str(number))
        assert set(await asyncio.gather(*calls)) == {b"chunk 0\n"}
        assert app.runtime.in_flight == 0


async def test_with_everybody_dead_the_answer_comes_and_then_at_once() -> None:
    cluster = {"retry": dict(QUICK), "timeouts": {"connect": "100ms", "request": "0"}}
    async with (
        silent_port() as silent,
        running(config(["127.0.0.1:1", f"127.0.0.1:{silent}"], cluster)) as app,
        session(app) as client,
    ):
        reasons = []
        while "breaker_open" not in reasons:
            async with client.get("/") as response:
                reasons.append(response.headers["x-sidecar-error"])
        assert set(reasons) == {"connect_failed", "breaker_open"}
        assert {each.breaker.state for each in app.runtime.snapshot.clusters["web"].endpoints} == {2}


CHECKS: dict[str, dict[str, Any]] = {
    "http": {"http": {"path": "/status/200"}},
    "tcp": {"tcp": {}},
    "grpc": {"grpc": {"service": ""}},
}


@pytest.mark.parametrize("kind", CHECKS)
async def test_health_checks_take_a_process_out_and_back_in(processes: Processes, kind: str) -> None:
    module = "tests.support.grpc_service" if kind == "grpc" else "tests.support.http_service"
    service = await processes.service(module)
    check = {**CHECKS[kind], "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
    async with running(config([service.address], {"health_check": check})) as app, session(app) as client:
        async with watching(app) as events:
            service.kill()
            told = await events.until("health", healthy=False)
            assert (told.fields["cluster"], told.fields["endpoint"]) == ("web", service.address)
            async with client.get("/") as response:
                assert (response.status, response.headers["x-sidecar-error"]) == (503, "no_endpoint")
            assert (await admin(app, "/api/clusters/web"))["endpoints"][0]["healthy"] is False
            await service.restart()
            await events.until("health", healthy=True)
        if kind != "grpc":
            async with client.get("/bytes/1") as response:
                assert response.status == 200
        assert endpoint(app).usable(app.runtime.clock())


async def test_an_endpoint_is_drained_by_the_api_until_its_ttl_passes() -> None:
    async with (
        FaultServer() as one,
        FaultServer() as other,
        running(config([one.address, other.address], {"balance": {"policy": "round_robin"}})) as app,
        session(app) as client,
        watching(app) as events,
    ):

        async def spread(requests: int) -> tuple[int, int]:
            before = len(one.requests), len(other.requests)
            for _ in range(requests):
                async with client.get("/") as response:
                    assert response.status == 200
            return len(one.requests) - before[0], len(other.requests) - before[1]

        assert await spread(4) == (2, 2)
        drain = f"/api/clusters/web/endpoints/{one.address}"
        answer = await admin(app, f"{drain}/drain?ttl=200ms", "POST")
        assert answer["endpoint"]["draining"] is True
        assert await spread(4) == (0, 4)
        await events.until("drain", endpoint=one.address, ttl=0.0)
        assert await spread(4) == (2, 2)
        await admin(app, f"{drain}/drain?ttl=60s", "POST")
        assert await spread(2) == (0, 2)
        await admin(app, f"{drain}/undrain", "POST")
        assert await spread(4) == (2, 2)
