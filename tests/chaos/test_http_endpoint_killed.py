"""Case 1: three endpoints under load, one of them killed and later back."""

import asyncio
from collections import Counter
from itertools import count

import aiohttp
import pytest

from sidecar.app import App
from tests.chaos.watching import endpoint, metrics, watching
from tests.interop.setups import config, session
from tests.support.processes import Processes, Service
from tests.support.sidecar import running

WORKERS = 16
METHODS = ("GET", "PUT", "HEAD", "DELETE", "OPTIONS")


class Load:
    """Callers that never rest, one request after the other, until `stop`."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.sent = 0
        self.seen: Counter[object] = Counter()
        self._client = client
        self._stopped = False
        self._more = asyncio.Condition()
        self._numbers = count()

    async def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    async def more(self, requests: int) -> None:
        """Wait for so many further answers."""
        wanted = self.sent + requests
        async with self._more:
            await self._more.wait_for(lambda: self.sent >= wanted)

    async def work(self) -> None:
        """One caller."""
        while not self._stopped:
            method = METHODS[next(self._numbers) % len(METHODS)]
            body = b"x" * 2000 if method == "PUT" else None
            try:
                async with self._client.request(method, "/echo", data=body) as response:
                    await response.read()
                    self.seen[response.status] += 1
            except Exception as error:
                self.seen[repr(error)] += 1
            self.sent += 1
            async with self._more:
                self._more.notify_all()


@pytest.mark.slow
async def test_no_idempotent_request_fails_when_an_endpoint_is_killed(processes: Processes) -> None:
    # Given three endpoints under load
    services = [await processes.service("tests.support.http_service", "--name", f"s{i}") for i in range(3)]
    cluster = {"breaker": {"window": "5s", "open": {"base": "100ms", "max": "200ms"}}}
    async with (
        running(config([service.address for service in services], cluster)) as app,
        session(app, connector=aiohttp.TCPConnector(limit=0)) as client,
        watching(app) as events,
        asyncio.TaskGroup() as group,
    ):
        load = Load(client)
        for _ in range(WORKERS):
            group.create_task(load.work())
        await load.more(300)
        await _kill_and_bring_back(app, services, load, events)
        await load.stop()
    # Then no request failed
    assert load.seen == {200: load.sent}


async def _kill_and_bring_back(app: App, services: list[Service], load: Load, events: object) -> None:
    dead = endpoint(app, 1)
    assert dead.verdicts[0] > 0
    # When one is killed
    services[1].kill()
    # Then its breaker opens, and it gets no more than probes
    await events.until("breaker", endpoint=dead.name, to="open")  # type: ignore[attr-defined]
    tried, probes = sum(dead.verdicts), dead.breaker.transitions[2, 1]
    await load.more(1000)
    # Tries that were under way when it opened, and one for each probe.
    assert sum(dead.verdicts) - tried <= WORKERS + dead.breaker.transitions[2, 1] - probes
    # And there were at most 1.2 attempts for each request
    seen = await metrics(app.address("admin"))
    requests = seen.total("sidecar_requests_total", cluster="web")
    assert requests >= 1300
    assert seen.total("sidecar_attempts_total", cluster="web") <= 1.2 * requests
    # And when it is back, it is used again
    succeeded = dead.verdicts[0]
    await services[1].restart()
    await events.until("breaker", endpoint=dead.name, to="closed")  # type: ignore[attr-defined]
    await load.more(300)
    assert dead.verdicts[0] > succeeded + 20
