"""Trouble that outlasts its cause: endpoints that fail at ten times the load, of users who ask
again. When the cause is gone, so is the trouble, within five seconds; and the sidecar's own
retries have never made much of it.

N. Bronson et al., "Metastable Failures in Distributed Systems" (HotOS 2021): a trigger, and
an effect that keeps itself up, such as a queue of requests that nobody waits for any more.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.chaos.watching import Metrics, metrics
from tests.support.open_loop import OpenLoop, Request
from tests.support.processes import Processes, Service
from tests.support.sidecar import SidecarProcess

# Two services with one worker of 20 ms each: 100 requests per second.
SERVICES = 2
WORKER = ("--workers", "1", "--milliseconds", "20")
NORMAL = 50.0  # requests per second
TENFOLD = 10 * NORMAL
TRIGGER = 3.0  # seconds
BACK_WITHIN = 5.0
# A user waits for a second, and asks three times, at once.
PATIENCE, TRIES = 1.0, 3
# `retry.budget` by default: so many retries for each request, and so many per second, counted over ten.
RATIO, FLOOR, WINDOW = 0.2, 10.0, 10.0

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    # The budget alone stands between the users and the endpoints.
    "no breaker": {"breaker": {"consecutive": 0, "failure_ratio": 1, "min_requests": 1_000_000}},
    "adaptive": {"limits": {"adaptive": True}},
    # A timeout within the users' patience: what is slow fails, and breakers hear of it.
    "sooner": {"timeouts": {"request": "500ms"}},
    "everything": {"limits": {"adaptive": True}, "admission": True, "timeouts": {"request": "500ms"}},
}
# How the endpoints fail (tests/support/queue_service.py), and under which policies. What is slow
# does not fail, and whose users have left nobody is told of: by default that stays. A limit that follows
# latency keeps the queue short; a timeout that is over before the users leave is a failure.
CASES: Sequence[tuple[str, str]] = (
    ("refuse", "default"),
    ("reset", "default"),
    ("broken", "default"),
    ("refuse", "no breaker"),
    ("reset", "no breaker"),
    ("slow", "adaptive"),
    ("slow", "sooner"),
    ("slow", "everything"),
    ("broken", "everything"),
)


class World:
    """The services, and a sidecar before them."""

    def __init__(self, services: list[Service], sidecar: SidecarProcess) -> None:
        self.services = services
        self.sidecar = sidecar

    async def mode(self, mode: str) -> None:
        """Change what the services do."""
        for service in self.services:
            await _get(f"http://{service.address}/mode/{mode}")

    async def received(self) -> int:
        """How many requests have come to the services, as they count them."""
        answers = [await _get(f"http://{service.address}/stats") for service in self.services]
        return sum(json.loads(answer)["received"] for answer in answers)

    async def metrics(self) -> Metrics:
        """A scrape."""
        return await metrics(self.sidecar.addresses["admin"])


async def _get(url: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200
        return await response.text()


async def world(processes: Processes, folder: Path, policy: str) -> World:
    services = [await processes.service("tests.support.queue_service", *WORKER) for _ in range(SERVICES)]
    cluster = {"listen": "127.0.0.1:0", "endpoints": [service.address for service in services]}
    spec = {"admin": {"bind": "127.0.0.1:0"}, "clusters": {"web": {**cluster, **POLICIES[policy]}}}
    sidecar = SidecarProcess(folder, yaml.safe_dump(spec))
    processes.own(sidecar)
    await sidecar.serve()
    return World(services, sidecar)


def goodput(requests: list[Request]) -> float:
    """The share that was served."""
    return sum(request.served for request in requests) / len(requests)


async def back(load: OpenLoop, within: float) -> float:
    """Let the normal load come until all that was due in a second has been served; how many
    seconds after now that second began. AssertionError when none begins within so many."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    coming = asyncio.create_task(load.run(NORMAL, within + 2 * PATIENCE))
    try:
        begin = start
        while begin <= start + within:
            await asyncio.sleep(begin + 1.0 - loop.time())
            second = load.between(begin, begin + 1.0)
            # Who came last in it may still be waiting: for as long as a user waits once.
            while not all(request.seconds for request in second) and loop.time() < begin + 1.0 + PATIENCE:  # noqa: ASYNC110 - requests tell nobody
                await asyncio.sleep(0.02)
            if second and goodput(second) == 1.0:
                return begin - start
            begin = max(begin + 0.25, loop.time() - 1.0)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    last = [request.statuses for request in load.requests[-round(NORMAL) :]]
    raise AssertionError(f"not all was served in any second of {within}; the last ones: {last}")


async def _overwhelm(place: World, mode: str, seconds: float) -> None:
    host, port = "127.0.0.1", place.sidecar.port("web")
    async with OpenLoop(host, port, patience=PATIENCE, tries=TRIES) as load:
        # Given services and users who get along
        await load.run(NORMAL, 1.0)
        await load.settle()
        assert goodput(load.requests) == 1.0
        before, received = await place.metrics(), await place.received()
        load.requests = []
        # When all services fail, and ten times as many users come
        await place.mode(mode)
        await load.run(TENFOLD, seconds)
        assert goodput(load.requests) < 0.1, "it was no outage"
        # A scrape takes some turns, in which requests go on: those of the attempts that it
        # tells of are all in the next one.
        tries, after = await place.metrics(), await place.metrics()
        # And it is over
        await place.mode("ok")
        load.requests = []
        # Then everybody is served again within five seconds
        await back(load, BACK_WITHIN)
        received = await place.received() - received
    # And retries kept to their budget, by our word and by that of the services
    requests, attempts = (
        scrape.total(name, cluster="web") - before.total(name, cluster="web")
        for scrape, name in ((after, "sidecar_requests_total"), (tries, "sidecar_attempts_total"))
    )
    assert TENFOLD * seconds / 2 < requests
    # The window slides by a tenth (sidecar/policy/window.py): the floor may be spent anew after nine.
    floor = FLOOR * (WINDOW + seconds / 0.9)
    assert attempts <= requests * (1 + RATIO) + floor
    end = await place.metrics()
    asked = end.total("sidecar_requests_total", cluster="web") - before.total("sidecar_requests_total", cluster="web")
    assert received <= asked * (1 + RATIO) + floor + FLOOR * (BACK_WITHIN + 2 * PATIENCE)
    assert end.total("sidecar_overload_level") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "policy"), CASES)
async def test_the_trouble_ends_with_its_cause(mode: str, policy: str, processes: Processes, tmp_path: Path) -> None:
    place = await world(processes, tmp_path, policy)
    await _overwhelm(place, mode, TRIGGER)
    if policy == "no breaker":
        # It was the budget that held them.
        assert (await place.metrics()).total("sidecar_retries_skipped_total", cluster="web", reason="budget") > 0


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "policy"), CASES)
async def test_the_trouble_ends_with_its_cause_after_a_minute(
    mode: str, policy: str, processes: Processes, tmp_path: Path
) -> None:
    await _overwhelm(await world(processes, tmp_path, policy), mode, 60.0)


@pytest.mark.slow
async def test_without_a_limit_the_trouble_stays(processes: Processes) -> None:
    """What the tests above show would be worth little if these users were not able to do it."""
    service = await processes.service("tests.support.queue_service", *WORKER)
    async with OpenLoop("127.0.0.1", service.port, patience=PATIENCE, tries=TRIES) as load:
        await load.run(NORMAL / SERVICES, 1.0)
        await load.settle()
        assert goodput(load.requests) == 1.0
        await _get(f"http://{service.address}/mode/slow")
        await load.run(TENFOLD / SERVICES, TRIGGER)
        await _get(f"http://{service.address}/mode/ok")
        loop = asyncio.get_running_loop()
        end = loop.time()
        await load.run(NORMAL / SERVICES, BACK_WITHIN)
        await load.settle()
        assert goodput(load.between(end + BACK_WITHIN - 1.0, end + BACK_WITHIN)) < 0.5
