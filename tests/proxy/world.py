"""A world for one path: real exchange, cluster, pools, breakers and limits between fakes.

A test reads as a transcript: given a World, when the client and the endpoints say
something, then the client got this and the endpoints saw that. `at_rest` is what
every test may ask at its end: nothing leaked, everything counted once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from sidecar.model.address import Address
from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Verdict
from sidecar.policy.breaker import HALF_OPEN, OPEN, REFUSED, Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.idempotency import Idempotency
from sidecar.policy.limit import Limit
from sidecar.policy.priority import PriorityLimit
from sidecar.policy.retry import RetryPolicy
from sidecar.proxy.exchange import beginner
from sidecar.proxy.route import Route, RouteTable, Rule, Target
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Listener, Snapshot
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from tests.proxy.fakes import Client, FakeConnection, FakeConnector, FakeTimers, FakeTurn, Upstream
from tests.support.clock import FakeClock

DEFAULT_ON: list[int | str] = ["unsent", "reset", "timeout", 502, 503, 504]

BREAKER: dict[str, Any] = {
    "window": 10.0,
    "failure_ratio": 0.5,
    "min_requests": 10,
    "consecutive": 5,
    "open_base": 1.0,
    "open_max": 60.0,
    "probes": 1,
}


class CountedBreaker(Breaker):
    """A breaker that keeps books: each permit that was given must come back once."""

    def __init__(self, **policy: Any) -> None:
        self.permits = 0
        self.recorded: list[Verdict] = []
        super().__init__(**policy)

    def admit(self, now: float) -> int:
        permit = super().admit(now)
        self.permits += permit != REFUSED
        return permit

    def record(self, permit: int, verdict: Verdict, now: float) -> None:
        if permit != REFUSED:
            self.permits -= 1
            self.recorded.append(verdict)
        super().record(permit, verdict, now)


class InOrder:
    """A balancer for transcripts: the first endpoint that was not tried."""

    def __init__(self) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.observed: list[tuple[str, float]] = []

    def update(self, endpoints: Any) -> None:
        self.endpoints = tuple(endpoints)

    def pick(self, tried: Any, key: int, now: float) -> Endpoint | None:
        return next((endpoint for endpoint in self.endpoints if endpoint not in tried), None)

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        self.observed.append((endpoint.name, seconds))


def policy(*, idempotent: tuple[str, ...] = (), grpc_on: tuple[int, ...] = (14,), **changes: Any) -> RetryPolicy:
    """The default retry policy, with changes."""
    on = changes.pop("on", DEFAULT_ON)
    return RetryPolicy(
        failures=RetryPolicy.failures_of(on),
        statuses=frozenset(word for word in on if isinstance(word, int)),
        grpc_codes=frozenset(grpc_on),
        idempotency=Idempotency(idempotent),
        **changes,
    )


class World:
    """One listener, one route, one cluster; `finished` holds what came of each exchange."""

    def __init__(
        self,
        endpoints: int = 2,
        *,
        retry: RetryPolicy | None = None,
        protocol: str = "auto",
        breaker: dict[str, Any] | None = None,
        limits: dict[str, int] | None = None,
        budget: tuple[float, float] = (0.2, 10.0),
        connect_timeout: float = 1.0,
        streams_per_connection: int = 100,
        balancer: Callable[[Random], Any] | None = None,
        priorities: tuple[int, ...] = (),
        seed: int = 1,
        **route: Any,
    ) -> None:
        self.clock = FakeClock()
        self.turn = FakeTurn(self.clock)
        self.timers = FakeTimers(self.clock)
        self.rng = Random(seed)
        self.connector = FakeConnector(self)
        self.connections: list[FakeConnection] = []
        self.streams: list[Upstream] = []
        self.streams_per_connection = streams_per_connection
        self.finished_exchanges: list[dict[str, Any]] = []
        self.crashes: list[BaseException] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._later: list[Callable[[], None]] = []
        self._depth = 0
        self.balancer = InOrder() if balancer is None else balancer(self.rng)
        most = {"requests": 1024, "connections": 1024, "pending": 1024, **(limits or {})}
        self.cluster = Cluster(
            "users",
            balancer=self.balancer,
            policy="in_order",
            budget=Budget(*budget),
            requests=PriorityLimit(most["requests"]),
            connections=Limit(most["connections"]),
            pending=Limit(most["pending"]),
            connector=self.connector,
            timers=self.timers,
            clock=self.clock,
            rng=self.rng,
            on_event=lambda kind, fields: self.events.append((kind, fields)),
        )
        self.cluster.protocol = protocol
        self.cluster.connect_timeout = connect_timeout
        self.breaker_policy = {**BREAKER, **(breaker or {})}
        self.endpoints = [self.endpoint(index, priorities) for index in range(endpoints)]
        self.cluster.replace_endpoints(self.endpoints)
        self.target = Target(self.cluster)
        route.setdefault("targets", (self.target,))
        self.route = Route("all", retry=retry or policy(), **route)
        self.runtime = Runtime(self.turn, self.timers, self.clock, self.rng, self.snapshot(self.route))
        self.runtime.on_crash = self.crashes.append
        self.runtime.records.append(self)
        self.begin = beginner(self.runtime, "in")

    def endpoint(self, index: int, priorities: tuple[int, ...] = ()) -> Endpoint:
        """Another endpoint, with a breaker that keeps books."""
        breaker = CountedBreaker(name=f"e{index}", rng=self.rng, clock=self.clock, **self.breaker_policy)
        endpoint = Endpoint(Address(f"e{index}", 80), breaker, priority=priorities[index] if priorities else 0)
        breaker.on_change = lambda changed, old, new: self.cluster.on_breaker(endpoint, changed, old, new)
        return endpoint

    def snapshot(self, *routes: Route) -> Snapshot:
        """A snapshot of these routes."""
        table = RouteTable([Rule(route) for route in routes])
        return Snapshot(1, {"in": Listener("in", "http", table, only=table.only)}, {"users": self.cluster})

    def finished(self, exchange: Any) -> None:
        """Records: what an exchange came to."""
        self.finished_exchanges.append(
            {
                "status": exchange.status,
                "code": exchange.code,
                "failure": exchange.failure,
                "skipped": exchange.skipped,
                "attempts": exchange.number,
                "in": exchange.bytes_in,
                "out": exchange.bytes_out,
            }
        )

    # Turns and time.

    def later(self, call: Callable[[], None]) -> None:
        """From the event loop, not now."""
        self._later.append(call)
        if not self._depth:
            with self.turn_of():
                pass

    @contextmanager
    def turn_of(self) -> Iterator[None]:
        """One callback of the event loop; what it caused is done when it ends."""
        if not self._depth:
            self.turn.now = self.clock.now
            self.turn.take_up()
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                while self.turn.tell() or self._run_later() or self.connector.go_on():
                    pass
        finally:
            self._depth -= 1

    def _run_later(self) -> bool:
        later, self._later = self._later, []
        for call in later:
            call()
        return bool(later)

    def after(self, seconds: float) -> None:
        """Let time pass; timers fire when they are due."""
        until = self.clock.now + seconds
        while (due := self.timers.due(until)) is not None:
            when, token = due
            self.clock.now = max(self.clock.now, when)
            with self.turn_of():
                self.timers.fire(token)
        self.clock.now = until

    # Requests.

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Headers | None = None,
        body: bytes | None = None,
        end: bool = True,
        protocol: str = "http1",
        authority: bytes = b"users.internal",
        upgrade: bytes = b"",
    ) -> Client:
        """A client's request: its head, perhaps a body, perhaps the end."""
        client = Client(self, protocol)
        head = RequestHead(method.encode(), path.encode(), authority, headers or [], length=None, upgrade=upgrade)
        with self.turn_of():
            self.begin(client, head, end and body is None)
            if body is not None:
                client.receiver.on_data(body, end)
        return client

    def call(
        self,
        path: str = "/pkg.Users/Get",
        *messages: bytes,
        end: bool = True,
        timeout: bytes | None = None,
        headers: Headers | None = None,
    ) -> Client:
        """A gRPC call with its first messages."""
        fields: Headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *(headers or [])]
        if timeout is not None:
            fields.append((b"grpc-timeout", timeout))
        body = b"".join(messages) if messages else b"" if end else None
        return self.request("POST", path, headers=fields, body=body, end=end, protocol="http2")

    @property
    def last(self) -> Upstream:
        """The newest upstream stream."""
        return self.streams[-1]

    @property
    def ended(self) -> dict[str, Any]:
        """What the newest finished exchange came to."""
        return self.finished_exchanges[-1]

    @property
    def asked(self) -> list[str]:
        """The endpoints that got a request, in order."""
        return [stream.endpoint.name.partition(":")[0] for stream in self.streams if stream.request is not None]

    def verdicts(self, index: int) -> list[Verdict]:
        """What an endpoint's breaker was told."""
        breaker = self.endpoints[index].breaker
        assert isinstance(breaker, CountedBreaker)
        return breaker.recorded

    def open_breaker(self, index: int) -> None:
        """Open an endpoint's breaker by failures in a row, as the path would."""
        endpoint = self.endpoints[index]
        while endpoint.breaker.state != OPEN:
            endpoint.breaker.record(endpoint.breaker.admit(self.clock.now), Verdict.FAILURE, self.clock.now)

    # The end.

    def at_rest(self) -> None:
        """Nothing is left of what is over: each counter is back, each permit was recorded once."""
        assert not self.crashes, self.crashes
        assert self.runtime.in_flight == 0
        assert self.cluster.requests.in_use == 0
        assert self.cluster.pending.in_use == 0
        assert self.cluster.connections.in_use == len(self.connections) + len(self.connector.dials)
        for endpoint in self.endpoints:
            breaker = endpoint.breaker
            assert isinstance(breaker, CountedBreaker)
            assert endpoint.in_flight == 0, endpoint
            assert breaker.permits == 0, f"{breaker}: {breaker.permits} permits are out"
            assert breaker.state != HALF_OPEN or breaker._free > 0 or breaker._successes > 0
            for pool in endpoint.pools.values():
                assert not pool.waiters
        for stream in self.streams:
            assert stream.over, f"a stream to {stream.endpoint} is still open"
        timed = [each for each in self.timers.waiting.values() if each is not self.cluster]
        assert not timed, timed
        assert not self.turn.waiting


def message(payload: bytes) -> bytes:
    """A length-prefixed gRPC message."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload
