"""Ten times the load on endpoints that fail, of users who ask again; then the cause ends
(tests/chaos/test_metastable.py)."""

import asyncio
import json

import aiohttp

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy
from tests.support.open_loop import OpenLoop, Request
from tests.support.processes import Processes, Service

# Two services that take 50 requests per second each.
NORMAL = 50.0
TENFOLD = 10 * NORMAL
PATIENCE, TRIES = 1.0, 3
AFTER = 10.0  # seconds for which it may come back
# (how the endpoints fail, with what the proxy has against slow ones)
CASES = (("refuse", False), ("reset", False), ("broken", False), ("broken", True), ("slow", False), ("slow", True))


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """How long users went without after the end, and what the services were asked meanwhile."""
    found: list[Figure] = []
    for mode, limited in CASES:
        name = f"{mode}, limited" if limited else mode
        back, asked = await _outage(proxy, mode, limited, seconds)
        found.append(
            Figure(
                "overload",
                f"{name}: all served again",
                back,
                "s after the end",
                "" if back is not None else f"not within {AFTER:.0f} s",
            )
        )
        found.append(Figure("overload", f"{name}: reached the services", asked, "of each try of a user"))
    return found


async def _outage(proxy: Proxy, mode: str, limited: bool, seconds: float) -> tuple[float | None, float]:
    processes = Processes()
    try:
        services = [
            await processes.service("tests.support.queue_service", "--workers", "1", "--milliseconds", "20")
            for _ in range(2)
        ]
        async with (
            proxy.started([service.address for service in services], limited=limited, budget=True) as running,
            OpenLoop("127.0.0.1", running.port, patience=PATIENCE, tries=TRIES) as load,
        ):
            await load.run(NORMAL, 2.0)
            await load.settle()
            before = await _received(services)
            load.requests = []
            await _set(services, mode)
            await load.run(TENFOLD, seconds)
            tries = sum(len(request.statuses) for request in load.requests)
            asked = (await _received(services) - before) / tries
            await _set(services, "ok")
            end = asyncio.get_running_loop().time()
            await load.run(NORMAL, AFTER + 1.0)
            await load.settle()
            return _back(load.requests, end), asked
    finally:
        processes.reap()


def _back(requests: list[Request], end: float) -> float | None:
    """From when on nobody failed for a second."""
    begin = 0.0
    while begin <= AFTER:
        second = [each for each in requests if end + begin <= each.began < end + begin + 1.0]
        if second and all(request.served for request in second):
            return begin
        begin += 0.1
    return None


async def _set(services: list[Service], mode: str) -> None:
    async with aiohttp.ClientSession() as client:
        for service in services:
            async with client.get(f"http://{service.address}/mode/{mode}") as response:
                response.raise_for_status()


async def _received(services: list[Service]) -> int:
    received = 0
    async with aiohttp.ClientSession() as client:
        for service in services:
            async with client.get(f"http://{service.address}/stats") as response:
                received += json.loads(await response.text())["received"]
    return received
