"""Endpoints that are killed by turns under a steady load (tests/chaos/test_kill_storm.py)."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.measure import Figure
from benchmarks.reliability.proxies import Proxy
from tests.support.processes import Processes
from tests.support.storm import Callers, kill_by_turns

RATE = 400.0  # requests per second, every fourth one a POST
EVERY = 1.25  # seconds


async def figures(proxy: Proxy, seconds: float) -> list[Figure]:
    """What failed, and what ran twice."""
    processes = Processes()
    with tempfile.TemporaryDirectory() as name:
        ledgers = [Path(name) / f"ledger-{number}" for number in range(3)]
        try:
            services = [await processes.service("tests.support.swift_service", "--ledger", str(one)) for one in ledgers]
            async with proxy.started([service.address for service in services]) as running:
                callers = Callers(running.port, "http1", RATE)
                killer = asyncio.create_task(kill_by_turns(services, EVERY))
                try:
                    await callers.run(seconds)
                finally:
                    killer.cancel()
                    callers.close()
        finally:
            processes.reap()
        ran = Counter(line for path in ledgers for line in path.read_text().split())
    gets, posts = callers.gets, callers.posts
    failed = {said: times for said, times in gets.items() if said != "200"}
    lost = set(callers.acknowledged) - ran.keys()
    return [
        Figure("kills", "GETs that failed", gets.total() - gets["200"], f"of {gets.total():,}", _words(failed)),
        Figure("kills", "POSTs that failed", posts.total() - posts["200"], f"of {posts.total():,}"),
        Figure("kills", "POSTs that ran twice", sum(times > 1 for times in ran.values()), ""),
        Figure("kills", "acknowledged, not run", len(lost), ""),
    ]


def _words(seen: dict[str, int]) -> str:
    return ", ".join(f"{said}: {times}" for said, times in seen.items())
