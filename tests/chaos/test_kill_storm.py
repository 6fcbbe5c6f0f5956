"""Endpoints that are killed one after the other, for as long as the load lasts.

No GET fails. A POST is acknowledged only by a service that wrote its id down and synced it:
what was acknowledged ran exactly once, and nothing ran twice, whatever became of its answer.
"""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess
from tests.support.storm import GOOD, PROTOCOLS, Callers, kill_by_turns

RATE = 400  # requests per second
KILL_EVERY = 1.25  # seconds

CONFIG = """
admin: {{bind: "127.0.0.1:0"}}
clusters:
  web:
    endpoints: [{endpoints}]
    retry: {{idempotent: [swift.Ledger/Read, swift.Ledger/ReadLate]}}
listeners:
  out: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}
"""


async def _storm(processes: Processes, folder: Path, protocol: str, seconds: float) -> None:
    # Given three services that keep a ledger each, under a steady load
    ledgers = [folder / f"ledger-{number}" for number in range(3)]
    options = [] if protocol == "http1" else ["--http2"]
    services = [
        await processes.service("tests.support.swift_service", "--ledger", str(path), *options) for path in ledgers
    ]
    endpoints = ", ".join(f'"{service.address}"' for service in services)
    sidecar = SidecarProcess(folder, CONFIG.format(endpoints=endpoints))
    processes.own(sidecar)
    await sidecar.serve()
    callers = Callers(sidecar.port("out"), protocol, RATE)
    # When one of them is killed every 1.25 seconds, and comes back
    killer = asyncio.create_task(kill_by_turns(services, KILL_EVERY))
    try:
        await callers.run(seconds)
    finally:
        killer.cancel()
        callers.close()
    # Then no GET failed
    assert callers.gets == {GOOD[protocol]: sum(callers.gets.values())}
    assert sum(callers.gets.values()) + sum(callers.posts.values()) == int(seconds * RATE)
    # And what was acknowledged ran once, and nothing twice
    ran = Counter(line for path in ledgers for line in path.read_text().split())
    assert [identity for identity, times in ran.items() if times > 1] == []
    assert set(callers.acknowledged) - ran.keys() == set()
    # And most POSTs went through: what failed were those under way at a kill
    assert len(callers.acknowledged) >= 0.98 * sum(callers.posts.values()), callers.posts


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_services_are_killed_in_turn(protocol: str, processes: Processes, tmp_path: Path) -> None:
    await _storm(processes, tmp_path, protocol, 10.0)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_services_are_killed_in_turn_for_a_minute(protocol: str, processes: Processes, tmp_path: Path) -> None:
    await _storm(processes, tmp_path, protocol, 60.0)
