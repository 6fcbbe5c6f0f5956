"""Few files and many clients (tests/chaos/test_overload_files.py)."""

import asyncio
from collections import Counter

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy
from tests.support.http_service import HttpService
from tests.support.swift_client import Http1Client

FILES = 64
CLIENTS = 200
PATIENCE = 5.0
HELD_SECONDS = 2.0


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """What 200 clients at once got, what it cost to hold them, and who is served when they have gone."""
    async with HttpService() as service:
        try:
            async with proxy.started([service.address], files=FILES) as running:
                clients = [Http1Client("127.0.0.1", running.port) for _ in range(CLIENTS)]
                seen = Counter(await asyncio.gather(*(_ask(client) for client in clients)))
                cpu = running.cpu_seconds()
                await asyncio.sleep(HELD_SECONDS)
                spent = (running.cpu_seconds() - cpu) / HELD_SECONDS
                for client in clients:
                    client.close()
                after: Counter[str] = Counter()
                for _ in range(CLIENTS if running.alive else 0):
                    client = Http1Client("127.0.0.1", running.port)
                    after[await _ask(client)] += 1
                    client.close()
                alive = running.alive
        except (RuntimeError, OSError) as error:
            return [Figure("files", "started", 0, "", str(error).splitlines()[-1][:100])]
    rest = {said: times for said, times in seen.items() if said != "200"}
    note = ", ".join(f"{said}: {times}" for said, times in rest.items())
    return [
        Figure("files", "answered 200", seen["200"], f"of {CLIENTS} at once", note),
        Figure("files", "CPU while it holds them", 100 * spent, "% of a core"),
        Figure("files", "answered 200 afterwards", after["200"], f"of {CLIENTS}", "" if alive else "it has ended"),
    ]


async def _ask(client: Http1Client) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            return str((await client.request(b"GET", b"/bytes/5")).status)
    except TimeoutError:
        return "no answer"
    except OSError:
        return "closed"
