"""A sidecar that gets no processor: it is stopped and let run by turns."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from sidecar.policy.pressure import SHED, WELL
from tests.chaos.watching import metrics
from tests.support.http_service import HttpService
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

# Longer than the look's interval: each of them is late by the difference, about 250 ms.
STOPPED = 0.5
RUNS = 0.03
WITHIN = 30.0


@asynccontextmanager
async def starved(pid: int) -> AsyncIterator[None]:
    """The process runs for a twentieth of the time."""

    async def starve() -> None:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(STOPPED)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(RUNS)

    task = asyncio.create_task(starve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        os.kill(pid, signal.SIGCONT)


async def level(sidecar: SidecarProcess, wanted: int) -> None:
    async with asyncio.timeout(WITHIN):
        while (await metrics(sidecar.addresses["admin"])).total("sidecar_overload_level") != wanted:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


async def test_without_time_what_matters_least_is_shed_and_the_rest_is_served(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    config = f"""
admin: {{bind: 127.0.0.1:0}}
overload: {{lag: {{hold: 50ms, shed: 100ms, refuse: 1m}}}}
clusters:
  web: {{listen: 127.0.0.1:0, endpoints: ["{http_service.address}"]}}
"""
    sidecar = SidecarProcess(tmp_path, config)
    processes.own(sidecar)
    await sidecar.serve()
    async with aiohttp.ClientSession(sidecar.url("web")) as client:

        async def ask(priority: str) -> int:
            async with client.get("/bytes/5", headers={"x-sidecar-priority": priority}) as response:
                return response.status

        assert await ask("sheddable") == 200
        async with starved(sidecar.pid):
            await level(sidecar, SHED)
            asked = ["sheddable", "default", "critical"] * 5
            # On connections that are there, and held for a moment after each answer.
            statuses = await asyncio.gather(*(ask(priority) for priority in asked))
            assert statuses == [503, 200, 200] * 5
        await level(sidecar, WELL)
        assert await ask("sheddable") == 200
    steps = [event["step"] for event in sidecar.events if event["event"] == "overload"]
    assert "shed" in steps
    assert "refuse" not in steps
    assert steps[-1] == "well"
    assert len(steps) <= 6, "steps have hysteresis"
