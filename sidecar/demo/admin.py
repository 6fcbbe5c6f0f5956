"""What the sidecar tells about itself: clusters and events, from its admin API."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A breaker went from one state to another, `at` seconds after the start."""

    at: float
    cluster: str
    endpoint: str
    before: str
    after: str


class AdminClient:
    """Looks at a sidecar. `clusters` and `events` are what it saw last and so far."""

    def __init__(self, base: str) -> None:
        self.clusters: dict[str, dict[str, Any]] = {}
        self.events: list[BreakerEvent] = []
        self._base = base
        self._session = aiohttp.ClientSession()

    async def look(self) -> None:
        """Read the clusters. What cannot be read stays as it was."""
        try:
            async with self._session.get(f"{self._base}/api/clusters", timeout=aiohttp.ClientTimeout(2)) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return
        self.clusters = {cluster["name"]: cluster for cluster in answer["clusters"]}

    async def follow(self, following: asyncio.Event) -> None:
        """Collect breaker events until cancelled, from when `following` is set."""
        try:
            timeout = aiohttp.ClientTimeout(total=None)
            async with self._session.get(f"{self._base}/api/events", timeout=timeout) as response:
                start = time.monotonic()
                following.set()
                async for line in response.content:
                    if line.startswith(b"data: "):
                        self._note(json.loads(line[6:]), time.monotonic() - start)
        except aiohttp.ClientError:
            return  # a sidecar that is gone is noticed elsewhere
        finally:
            following.set()

    def _note(self, event: dict[str, Any], at: float) -> None:
        if event["kind"] == "breaker":
            self.events.append(BreakerEvent(at, event["cluster"], event["endpoint"], event["from"], event["to"]))

    async def close(self) -> None:
        """Close its connections."""
        await self._session.close()
