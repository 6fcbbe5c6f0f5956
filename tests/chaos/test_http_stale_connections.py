"""Case 8: kept connections that are used again around the moment when the server closes them."""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.watching import metrics
from tests.interop.setups import TIMEOUT, config
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

ROUNDS = 100
BATCH = 100
METHODS = ("POST", "GET", "PATCH", "PUT", "DELETE")
IDLE = 0.2


@pytest.mark.slow
async def test_ten_thousand_idle_connections_used_again(processes: Processes, tmp_path: Path) -> None:
    # Given a server that soon closes idle connections. Each part is a process of its own:
    # in one event loop the server would close late, by as much as the others take.
    rng = random.Random(8)
    service = await processes.service("tests.support.http_service", "--keepalive", str(IDLE))
    sidecar = SidecarProcess(tmp_path, config([service.address]))
    processes.own(sidecar)
    await sidecar.serve()
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as client:

        async def call(number: int) -> tuple[int, str | None]:
            method = METHODS[number % len(METHODS)]
            async with client.request(method, sidecar.url("out", "/empty"), data=b"body") as response:
                await response.read()
                return response.status, response.headers.get("x-sidecar-error")

        # When connections are used after they were idle for shorter, longer, and just as long
        for _ in range(ROUNDS):
            assert set(await asyncio.gather(*(call(number) for number in range(BATCH)))) == {(200, None)}
            await asyncio.sleep(IDLE * rng.uniform(0.1, 1.3))
        async with client.get(f"http://{service.address}/count?id=none") as response:
            ran = (await response.json())["calls"]["/empty"]
    # Then every method went well, and each request ran once
    assert ran == ROUNDS * BATCH
    seen = await metrics(sidecar.addresses["admin"])
    assert seen.total("sidecar_requests_total", cluster="web", code="200") == ROUNDS * BATCH
    assert seen.total("sidecar_attempts_total", cluster="web", verdict="failure") == 0
