"""Active health checks of one cluster's endpoints, at intervals.

A new endpoint counts as well until `fall` checks in a row have failed: a start of
the sidecar must not be an outage, and its breaker looks after it meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

from sidecar.health.probe import Probe
from sidecar.proxy.runtime import Runtime
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint

# Sidecars that were started together must not check together.
_JITTER: Final = 0.1
# The first check comes within this many seconds, or within one interval.
_SOON: Final = 1.0
# No more of a reason is kept and told, in characters.
_LONGEST_REASON: Final = 300


class Tally:
    """An endpoint's checks: how many in a row said the opposite of its state, what the
    last one said ("" when it was well), and whether any has said that it was well."""

    __slots__ = ("against", "passed", "reason")

    def __init__(self) -> None:
        self.against = 0
        self.passed = False
        self.reason = ""


class Checker:
    """One Task per endpoint. Times in seconds.

    `rise` successes in a row bring an endpoint back, `fall` failures in a row take
    it out. Takes over `probe` and closes it. After the cluster's endpoints have
    changed call `sync`; when the settings have changed make a new Checker, have it
    `adopt` the old one, stop that, and start the new one.
    """

    def __init__(
        self,
        runtime: Runtime,
        cluster: Cluster,
        probe: Probe,
        *,
        interval: float,
        timeout: float,
        rise: int,
        fall: int,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.cluster = cluster
        self.tallies: dict[str, Tally] = {}
        self._runtime = runtime
        self._probe = probe
        self._interval = interval
        self._timeout = timeout
        self._rise = rise
        self._fall = fall
        self._rng = rng if rng is not None else runtime.rng
        self._sleep = sleep
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._running = False

    def adopt(self, previous: "Checker") -> None:
        """Go on with the counts of the checker that this one replaces."""
        self.tallies.update(previous.tallies)

    def start(self) -> None:
        """Check each endpoint of the cluster, until `stop`."""
        self._running = True
        self.sync(self.cluster.endpoints)

    def sync(self, endpoints: Sequence[Endpoint]) -> None:
        """Check these endpoints from now on, and no others."""
        if not self._running:
            return
        for endpoint in self._tasks.keys() - set(endpoints):
            self._tasks.pop(endpoint).cancel()
            self.tallies.pop(endpoint.name, None)
        for endpoint in endpoints:
            if endpoint not in self._tasks:
                self._tasks[endpoint] = asyncio.create_task(self._check(endpoint), name=f"health {endpoint.name}")

    def halt(self) -> None:
        """No more checks from now on. The endpoints keep the state that they have."""
        self._running = False
        for task in self._tasks.values():
            task.cancel()

    async def stop(self) -> None:
        """Halt, and wait until everything is closed."""
        self.halt()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        await self._probe.close()

    def forgive(self) -> None:
        """Nobody checks any more: what was taken out comes back. After `halt`, when
        no other checker takes over."""
        self.tallies.clear()
        for endpoint in self.cluster.endpoints:
            self._set(endpoint, True, "no longer checked")

    async def _check(self, endpoint: Endpoint) -> None:
        tally = self.tallies.setdefault(endpoint.name, Tally())
        await self._sleep(self._rng.random() * min(self._interval, _SOON))
        while True:
            reason = await self._ask(endpoint)
            if not self._running:  # an answer that crossed `halt` has no say any more
                return
            self._count(endpoint, tally, reason)
            await self._sleep(self._interval * (1 - _JITTER + 2 * _JITTER * self._rng.random()))

    async def _ask(self, endpoint: Endpoint) -> str:
        """Empty when it is well, else the reason in one line. It may quote what the endpoint sent."""
        return " ".join((await self._answer(endpoint)).split())[:_LONGEST_REASON]

    async def _answer(self, endpoint: Endpoint) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._probe.ask(endpoint.address)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        except Exception as error:
            # A probe that fails in a way of its own must not end the checks.
            return f"{type(error).__name__}: {error}"

    def _count(self, endpoint: Endpoint, tally: Tally, reason: str) -> None:
        tally.reason = reason
        well = not reason
        tally.passed = tally.passed or well
        if well == endpoint.healthy:
            tally.against = 0
            return
        tally.against += 1
        if tally.against >= (self._rise if well else self._fall):
            tally.against = 0
            self._set(endpoint, well, reason)

    def _set(self, endpoint: Endpoint, healthy: bool, reason: str) -> None:
        # What changes clusters runs inside a turn: it may wake waiting requests.
        turn = self._runtime.turn
        turn.begin()
        try:
            self.cluster.set_health(endpoint, healthy, reason)
        finally:
            turn.end()
