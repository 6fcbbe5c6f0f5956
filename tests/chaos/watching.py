"""What the tests in this folder look at: metrics, breakers, and what is left over."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from sidecar.app import App
from sidecar.telemetry.events import Event
from sidecar.upstream.endpoint import Endpoint

WITHIN = 20.0


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name whose labels are at least these."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is such a sample at all."""
        return any(sample.name == name and labels.items() <= sample.labels.items() for sample in self.samples)


async def metrics(address: object) -> Metrics:
    """Scrape an admin address."""
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}/metrics") as response:
        assert response.status == 200
        return Metrics(await response.text())


def endpoint(app: App, number: int = 0, cluster: str = "web") -> Endpoint:
    """One endpoint of the live snapshot."""
    return app.runtime.snapshot.clusters[cluster].endpoints[number]


class Watch:
    """The events since a moment."""

    def __init__(self, app: App) -> None:
        self._subscription = app.events.subscribe()

    async def until(self, kind: str, **fields: object) -> Event:
        """The next event of a kind with at least these fields."""
        async with asyncio.timeout(WITHIN):
            async for event in self._subscription:
                if event.kind == kind and fields.items() <= event.fields.items():
                    return event
        raise AssertionError(f"no event {kind} {fields}")

    def close(self) -> None:
        """Listen no more."""
        self._subscription.close()


@asynccontextmanager
async def watching(app: App) -> AsyncIterator[Watch]:
    """The events from now on."""
    watch = Watch(app)
    try:
        yield watch
    finally:
        watch.close()


async def eventually(true: Callable[[], object], what: str) -> None:
    """Let the event loop run until something holds that nobody tells of."""
    try:
        async with asyncio.timeout(WITHIN):
            while not true():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"did not come about: {what}") from None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a sidecar in this process holds; equal before and after a run that leaks nothing."""

    tasks: int
    files: int
    timers: int
    in_flight: int
    requests: int
    pending: int
    downstream: int

    @classmethod
    def of(cls, app: App) -> "Leftovers":
        """Count now."""
        runtime = app.runtime
        clusters = runtime.snapshot.clusters.values()
        return cls(
            tasks=len(asyncio.all_tasks()),
            files=len(os.listdir("/proc/self/fd")),
            timers=len(runtime.timers),  # type: ignore[arg-type]
            in_flight=runtime.in_flight + sum(each.in_flight for one in clusters for each in one.endpoints),
            requests=sum(cluster.requests.in_use for cluster in clusters),
            pending=sum(cluster.pending.in_use for cluster in clusters),
            downstream=sum(number for (side, _), number in runtime.connections.items() if side == "downstream"),
        )
