"""Holds readiness until the clusters under `wait_for` can be used.

Only at the start: a cluster that fails later is for its breakers, and not a reason to take
traffic from a sidecar that serves others.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.health.checks import Checks
from sidecar.health.tcp_probe import TcpProbe
from sidecar.telemetry.logs import get_logger
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.wire.lookups import Lookups

_LOOK_SECONDS: Final = 0.25


class StartOrder:
    """Which clusters are waited for. Usable is one whose health check has said so of an
    endpoint, or where nothing checks one that a connection could be made to."""

    def __init__(self, checks: Checks, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._checks = checks
        self._sleep = sleep
        self._lookups = Lookups()
        self._waits: dict[str, asyncio.Task[None]] = {}

    @property
    def missing(self) -> list[str]:
        """The clusters that are still waited for."""
        return [name for name, task in self._waits.items() if not task.done()]

    def begin(self, clusters: list[Cluster]) -> None:
        """Wait for these."""
        loop = asyncio.get_running_loop()
        for cluster in clusters:
            self._waits[cluster.name] = loop.create_task(self._wait(cluster), name=f"wait_for {cluster.name}")

    async def _wait(self, cluster: Cluster) -> None:
        while not await self._is_usable(cluster):
            await self._sleep(_LOOK_SECONDS)
        get_logger().info("cluster_is_usable", cluster=cluster.name)

    async def _is_usable(self, cluster: Cluster) -> bool:
        if cluster.removed:
            return True  # by a reload: nobody needs it any more
        for endpoint in cluster.endpoints:
            checked = self._checks.passed(cluster.name, endpoint.name)
            if checked or (checked is None and await self._accepts(cluster, endpoint)):
                return True
        return False

    async def _accepts(self, cluster: Cluster, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(cluster.connect_timeout or None):
                return not await TcpProbe(self._lookups).ask(endpoint.address)
        except (OSError, TimeoutError):
            return False

    async def done(self) -> None:
        """Wait until nothing is missing. Who waits no longer ends nobody else's wait."""
        for wait in [*self._waits.values()]:
            await asyncio.shield(wait)

    async def stop(self) -> None:
        """Wait no more."""
        for task in self._waits.values():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._waits.values(), return_exceptions=True)
        self._lookups.close()
