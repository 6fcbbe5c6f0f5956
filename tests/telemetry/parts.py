"""A runtime of real clusters and routes, with a clock that stands still and no sockets."""

from random import Random
from types import SimpleNamespace
from typing import Any, cast

from sidecar.model.address import Address
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.limit import Limit
from sidecar.policy.priority import PriorityLimit
from sidecar.policy.retry import RetryPolicy
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.route import Redirect, Route, RouteTable, Rule, Target
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Listener, Snapshot
from sidecar.upstream.balance.make import make_balancer
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from tests.support.clock import FakeClock


class FakeTurn:
    """Counts how deep it is, and keeps no output."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.depth = 0

    @property
    def now(self) -> float:
        return self._clock.now

    def begin(self) -> None:
        self.depth += 1

    def end(self) -> None:
        self.depth -= 1

    def mark(self, connection: Any) -> None:
        raise AssertionError("nothing here writes")

    def at_end(self, waiting: Any) -> None:
        raise AssertionError("nothing here waits")


class FakeTimers:
    """Timers that the test fires."""

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[float, Any]] = {}
        self._token = 0

    def add(self, delay: float, timed: Any) -> int:
        self._token += 1
        self.waiting[self._token] = (delay, timed)
        return self._token

    def cancel(self, token: int) -> None:
        self.waiting.pop(token, None)

    def fire(self, timed: Any) -> None:
        """Everything that this one waits for is over."""
        for token in [token for token, (_, each) in self.waiting.items() if each is timed]:
            del self.waiting[token]
            timed.on_timer(token)


class Parts:
    """`runtime` with the clusters that `cluster` made, under one listener `out`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.rng = Random(1)
        self.timers = FakeTimers()
        self.turn = FakeTurn(clock)
        self.clusters: dict[str, Cluster] = {}
        self.published: list[tuple[str, Any]] = []
        self.runtime = Runtime(cast(Any, self.turn), self.timers, clock, self.rng, Snapshot())

    def endpoint(self, address: str) -> Endpoint:
        breaker = Breaker(
            name=address,
            window=10.0,
            failure_ratio=0.5,
            min_requests=10,
            consecutive=2,
            open_base=1.0,
            open_max=1.0,
            probes=1,
            rng=self.rng,
            clock=self.clock,
        )
        return Endpoint(Address.parse(address), breaker)

    def cluster(self, name: str, *addresses: str) -> Cluster:
        cluster = Cluster(
            name,
            balancer=make_balancer("peak_ewma", rng=self.rng, slow_start=0.0),
            policy="peak_ewma",
            budget=Budget(0.2, 10),
            requests=PriorityLimit(8),
            connections=Limit(8),
            pending=Limit(8),
            connector=cast(Any, None),
            timers=self.timers,
            clock=self.clock,
            rng=self.rng,
            on_event=lambda kind, fields: self.published.append((kind, fields)),
        )
        cluster.replace_endpoints([self.endpoint(address) for address in addresses])
        self.clusters[name] = cluster
        return cluster

    def go_live(self, *routes: Route, version: int = 1) -> None:
        """Make a snapshot of the clusters and these routes."""
        table = RouteTable([Rule(route) for route in routes])
        self.runtime.snapshot = Snapshot(version, {"out": Listener("out", "http", table)}, self.clusters)


def route_to(cluster: Cluster, name: str = "out[0]", retry: RetryPolicy | None = None) -> Route:
    """A route with one target."""
    return Route(name, (Target(cluster),), retry=retry or RetryPolicy())


def redirect(name: str) -> Route:
    """A route without a cluster."""
    return Route(name, redirect=Redirect())


class Ended:
    """Builds finished exchanges; real attempts, and of the exchange what records read."""

    def __init__(self, parts: Parts, cluster: Cluster | None, protocol: str = "http1") -> None:
        self._parts = parts
        self._cluster = cluster
        self._protocol = protocol
        self.started = parts.clock.now
        self.tries: list[Attempt] = []

    def attempt(
        self,
        number: int,
        verdict: Verdict,
        *,
        failure: Failure | None = None,
        status: int = 0,
        seconds: float = 0.01,
        to_head: float | None = None,
    ) -> Attempt:
        """One try at the cluster's endpoints in turn; time moves on by `seconds`."""
        assert self._cluster is not None
        endpoints = self._cluster.endpoints
        attempt = Attempt(cast(Any, None), endpoints[(number - 1) % len(endpoints)], number, 0, self._parts.clock.now)
        attempt.failure = failure
        attempt.verdict = verdict
        if status:
            attempt.head = ResponseHead(status, [])
            attempt.latency = seconds if to_head is None else to_head
        attempt.ended = self._parts.clock.advance(seconds)
        self.tries.append(attempt)
        return attempt

    def end(
        self,
        *,
        status: int = 200,
        code: int = 0,
        failure: Failure | None = None,
        skipped: Skipped | None = None,
        refused: tuple[Endpoint, ...] = (),
        answered: bool = True,
    ) -> Exchange:
        """The exchange, whose client got the last try's answer if it was `answered`."""
        number = len(self.tries)
        exchange = SimpleNamespace(
            runtime=self._parts.runtime,
            listener="out",
            route=route_to(self._cluster) if self._cluster is not None else None,
            cluster=self._cluster,
            protocol=self._protocol,
            grpc=self._protocol == "grpc",
            head=RequestHead(b"GET", b"/users/\xff?id=hunter2", b"users.internal", []),
            stream=SimpleNamespace(peer="127.0.0.1:5000"),
            started=self.started,
            number=number,
            attempt=self.tries[-1] if self.tries and answered else None,
            attempts=[each for each in self.tries if number > 1 or each.verdict is not Verdict.SUCCESS],
            refused=refused,
            skipped=skipped,
            failure=failure,
            status=status,
            code=code,
            bytes_in=3,
            bytes_out=5,
        )
        return cast(Exchange, exchange)
