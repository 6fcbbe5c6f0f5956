"""Slow clients beside one who wants to be served (tests/security/slow)."""

import asyncio

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy, Running
from tests.support.bystander import Bystander
from tests.support.processes import Processes
from tests.support.slow_clients import BODY, HEADER, READ, SILENT, SlowClient

ATTACKERS = {HEADER: 200, BODY: 200, READ: 50, SILENT: 200}
PATHS = {READ: b"/bytes/8000000"}
PATIENCE = 3  # seconds
# Until the service has made its large answers and all buffers are full: the bystander would wait for that.
_FILLING_SECONDS = 5.0


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """What the bystander's p99 became, who was cut off, and what it cost."""
    processes = Processes()
    try:
        service = await processes.service("tests.support.http_service")
        async with proxy.started([service.address], patience=PATIENCE) as running:
            return [figure for mode in ATTACKERS for figure in await _attack(running, mode, seconds)]
    finally:
        processes.reap()


async def _attack(running: Running, mode: str, seconds: float) -> list[Figure]:
    bystander = Bystander(running.port, b"/bytes/100")
    alone = await bystander.p99(seconds / 2)
    memory = running.resident_mib()
    count = ATTACKERS[mode]
    clients = [SlowClient(mode, PATHS.get(mode, b"/echo"), every=0.2) for _ in range(count)]
    for client in clients:
        await client.start(running.port)
    if mode == READ:
        await asyncio.sleep(_FILLING_SECONDS)
    beside = await bystander.p99(seconds)
    grown = running.resident_mib() - memory
    cut = sum(client.gone.is_set() for client in clients)
    for client in clients:
        await client.stop()
    bystander.close()
    found = [
        Figure("slow", f"{mode}: p99 beside", beside / alone, "of that alone", f"{bystander.failed} failed"),
        Figure("slow", f"{mode}: memory", grown, "MiB more"),
    ]
    if mode != READ:  # who has megabytes to read yet does not see the end
        found.insert(1, Figure("slow", f"{mode}: cut off", cut, f"of {count} within {seconds:.0f} s"))
    return found
