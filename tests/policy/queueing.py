"""A service with a queue, simulated: requests come by chance, some servers work on them.

Simulation(...).run(seconds) is discrete-event and deterministic: its clock is its own,
its randomness seeded. What it holds after the run is what tests ask about.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sidecar.policy.adaptive import AdaptiveLimit, AdaptivePolicy

# How long one request takes to serve, in seconds; never a queue's doing.
Service = Callable[[Random], float]


def steady(seconds: float) -> Service:
    """Always the same."""
    return lambda rng: seconds


def noisy(seconds: float, sigma: float = 0.5) -> Service:
    """Lognormal around a median: a long tail, as real services have."""
    return lambda rng: seconds * rng.lognormvariate(0.0, sigma)


@dataclass(slots=True)
class Second:
    """What happened in one second of simulated time."""

    offered: int = 0
    refused: int = 0
    done: int = 0
    latencies: list[float] = field(default_factory=list)
    lowest: int = 1 << 30
    highest: int = 0


class Simulation:
    """An open loop of `rate` requests per second through a limit to `servers` servers."""

    def __init__(
        self,
        *,
        servers: int,
        service: Service,
        rate: float,
        policy: AdaptivePolicy | None = None,
        patience: float = 1e9,
        seed: int = 1,
    ) -> None:
        self.servers = servers
        self.service = service
        self.rate = rate
        self.patience = patience  # seconds after which a client leaves; the server works on
        self.now = 0.0
        self.rng = Random(seed)
        self.limit = AdaptiveLimit(policy or AdaptivePolicy(), Random(seed), 0.0)
        self.in_flight = 0
        self.seconds: list[Second] = []
        self._busy = 0
        self._queue: deque[list[float]] = deque()
        self._events: list[tuple[float, int, str, list[float]]] = []
        self._number = 0
        self._at(self.rng.expovariate(rate), "arrives", [])

    def run(self, seconds: float) -> "list[Second]":
        """Let time pass; what happened in each of these seconds."""
        first = len(self.seconds)
        until = self.now + seconds
        while self._events[0][0] < until:
            self.now, _, kind, request = heapq.heappop(self._events)
            getattr(self, "_" + kind)(request)
        self.now = until
        self._second(until - 1e-9)
        return self.seconds[first:]

    def _at(self, when: float, kind: str, request: list[float]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, kind, request))

    def _second(self, now: float) -> Second:
        while len(self.seconds) <= int(now):
            self.seconds.append(Second())
        second = self.seconds[int(now)]
        second.lowest = min(second.lowest, self.limit.limit)
        second.highest = max(second.highest, self.limit.limit)
        return second

    def _arrives(self, _: list[float]) -> None:
        self._at(self.now + self.rng.expovariate(self.rate), "arrives", [])
        second = self._second(self.now)
        second.offered += 1
        if self.in_flight >= self.limit.limit:
            second.refused += 1
            return
        self.in_flight += 1
        request = [self.now]  # when it began; emptied when its client is gone
        self._queue.append(request)
        if self.patience < 1e9:
            self._at(self.now + self.patience, "leaves", request)
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._busy < self.servers:
            request = self._queue.popleft()
            self._busy += 1
            self._at(self.now + self.service(self.rng), "answers", request)

    def _answers(self, request: list[float]) -> None:
        self._busy -= 1
        if request:
            began = request.pop()
            latency = self.now - began
            second = self._second(self.now)
            second.done += 1
            second.latencies.append(latency)
            self.limit.observe(began, latency, self.in_flight, self.now)
            self.in_flight -= 1
        self._serve()

    def _leaves(self, request: list[float]) -> None:
        if request:
            began = request.pop()
            self.limit.at_least(began, self.now - began, self.in_flight, self.now)
            self.in_flight -= 1
