"""Slow clients beside one who wants to be served (tests/security/slow)."""

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy
from tests.support.bystander import Bystander
from tests.support.http_service import HttpService
from tests.support.slow_clients import BODY, HEADER, READ, SILENT, SlowClient

ATTACKERS = {HEADER: 200, BODY: 200, READ: 50, SILENT: 200}
PATHS = {READ: b"/bytes/8000000"}
PATIENCE = 3  # seconds


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """What the bystander's p99 became, who was cut off, and what it cost."""
    found: list[Figure] = []
    async with HttpService() as service, proxy.started([service.address], patience=PATIENCE) as running:
        for mode, count in ATTACKERS.items():
            bystander = Bystander(running.port, b"/bytes/100")
            alone = await bystander.p99(3.0)
            memory = running.resident_mib()
            clients = [SlowClient(mode, PATHS.get(mode, b"/echo"), every=0.2) for _ in range(count)]
            for client in clients:
                await client.start(running.port)
            beside = await bystander.p99(seconds)
            grown = running.resident_mib() - memory
            cut = sum(client.gone.is_set() for client in clients)
            for client in clients:
                await client.stop()
            bystander.close()
            found += [
                Figure("slow", f"{mode}: p99 beside", beside / alone, "of that alone", f"{bystander.failed} failed"),
                Figure("slow", f"{mode}: cut off", cut, f"of {count} within {seconds:.0f} s"),
                Figure("slow", f"{mode}: memory", grown, "MiB more"),
            ]
    return found
