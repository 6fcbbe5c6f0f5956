"""Reloads under load, of callers that reconnect and callers that keep their connections
(tests/lifecycle/test_takeover.py)."""

import asyncio

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy
from tests.lifecycle.reconnecting import calling
from tests.support.http_service import HttpService

RELOADS = 100
EVERY = 0.3  # seconds: as fast as all of them can


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """What failed."""
    found = []
    async with HttpService() as service, proxy.started([service.address]) as running:
        async with calling(f"127.0.0.1:{running.port}", callers=4) as load:
            await load.more(5)
            for _ in range(RELOADS):
                running.reload()
                await asyncio.sleep(EVERY)
            load.stop()
        for kind in ("http1, new", "http1, kept"):
            failed = {said: times for (caller, said), times in load.failed.items() if caller == kind}
            count = sum(failed.values())
            note = ", ".join(f"{said[:60]}: {times}" for said, times in failed.items())
            found.append(
                Figure("reloads", f"{kind} connections: failed", count, f"of {load.good(kind) + count:,}", note)
            )
    return found
