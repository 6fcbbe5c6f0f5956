"""Anything may happen in any order: every permit is recorded once, every exchange
finishes once, a client gets one whole answer or a reset, and nothing leaks."""

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.model.outcome import Failure
from sidecar.policy.breaker import OPEN
from sidecar.policy.hedge import MADE, HedgePolicy, Hedging
from sidecar.policy.outlier import OutlierPolicy
from sidecar.upstream.balance.peak_ewma import PeakEwma
from tests.proxy.fakes import Client, Upstream
from tests.proxy.world import World, message, policy

FAILURES = st.sampled_from(
    [Failure.RESET, Failure.PROTOCOL, Failure.STALE_REUSE, Failure.REFUSED, Failure.UNSENT],
)
STATUSES = st.sampled_from([200, 204, 404, 500, 502, 503])
CODES = st.sampled_from([0, 5, 13, 14])
GRPC = [(b"content-type", b"application/grpc")]


class Paths(RuleBasedStateMachine):
    """Clients, endpoints, dials and time, all at once on one cluster."""

    @initialize(
        endpoints=st.integers(1, 3),
        attempts=st.integers(1, 4),
        limits=st.sampled_from([{}, {"connections": 1}, {"connections": 2, "pending": 2}, {"requests": 3}]),
        streams=st.sampled_from([1, 2, 100]),
        timeouts=st.sampled_from([(15.0, 0.0, 300.0), (2.0, 0.5, 1.0), (0.0, 0.0, 5.0)]),
        consecutive=st.sampled_from([1, 5]),
        probes=st.integers(1, 2),
        replay=st.sampled_from([0, 8, 1 << 18]),
        hedge=st.sampled_from([None, 0.0, 0.02, 0.2]),
        ejects=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def given(
        self,
        endpoints: int,
        attempts: int,
        limits: dict[str, int],
        streams: int,
        timeouts: tuple[float, float, float],
        consecutive: int,
        probes: int,
        replay: int,
        hedge: float | None,
        ejects: bool,
        seed: int,
    ) -> None:
        request, of_try, idle = timeouts
        self.world = World(
            endpoints,
            retry=policy(attempts=attempts, replay=replay, idempotent=("/pkg.Read/*",)),
            breaker={"consecutive": consecutive, "probes": probes},
            limits=limits,
            streams_per_connection=streams,
            request_timeout=request,
            try_timeout=of_try,
            idle_timeout=idle,
            hedge=None if hedge is None else HedgePolicy(quantile=0.5, seconds=hedge),
            balancer=lambda rng: PeakEwma(Random(seed)),
            seed=seed,
        )
        self.hedging = Hedging(1.0, self.world.clock.now)
        for _ in range(60):  # of which half took no longer
            self.hedging.latencies.add(0.01, self.world.clock.now)
        self.world.cluster.regulate(None, None, limits.get("requests", 1024), self.hedging)
        if ejects:
            self.world.cluster.eject_outliers(OutlierPolicy(interval=1.0, min_requests=1, base=0.5))
        self.world.connector.by_hand = True
        self.clients: list[Client] = []
        self.sending: list[Client] = []

    # What clients do.

    @rule(
        method=st.sampled_from(["GET", "POST", "PUT"]),
        body=st.sampled_from([None, b"", b"x", b"y" * 20]),
        end=st.booleans(),
        protocol=st.sampled_from(["http1", "http2"]),
    )
    def request(self, method: str, body: bytes | None, end: bool, protocol: str) -> None:
        self._begun(self.world.request(method, body=body, end=end, protocol=protocol), end)

    @rule(
        path=st.sampled_from(["/pkg.Read/Get", "/pkg.Write/Put"]),
        messages=st.integers(0, 3),
        end=st.booleans(),
        timeout=st.sampled_from([None, b"100m", b"1S", b"1H", b"0n"]),
    )
    def call(self, path: str, messages: int, end: bool, timeout: bytes | None) -> None:
        self._begun(self.world.call(path, *[message(b"m")] * messages, end=end, timeout=timeout), end)

    def _begun(self, client: Client, end: bool) -> None:
        self.clients.append(client)
        if not end:
            self.sending.append(client)

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), body=st.sampled_from([b"", b"z", message(b"m")]), end=st.booleans())
    def send(self, data: Any, body: bytes, end: bool) -> None:
        client = data.draw(st.sampled_from(self.sending))
        client.sends(body, end)
        if end:
            self.sending.remove(client)

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def send_trailers(self, data: Any) -> None:
        client = data.draw(st.sampled_from(self.sending))
        self.sending.remove(client)
        client.sends_trailers([(b"x-sum", b"1")])

    @precondition(lambda self: self._waiting())
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        client = data.draw(st.sampled_from(self._waiting()))
        if client in self.sending:
            self.sending.remove(client)
        client.leaves()
        client.ended = True

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), takes=st.booleans())
    def read(self, data: Any, takes: bool) -> None:
        client = data.draw(st.sampled_from(self._waiting()))
        if takes:
            client.takes()
        else:
            client.takes_more = False

    def _waiting(self) -> list[Client]:
        return [client for client in self.clients if not client.ended]

    # What endpoints do.

    @precondition(lambda self: self.world.connector.dials)
    @rule(fine=st.booleans(), failure=st.sampled_from([Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT]))
    def dialled(self, fine: bool, failure: Failure) -> None:
        if fine:
            self.world.connector.connects()
        else:
            self.world.connector.fails(failure)

    def _live(self, begun: bool) -> list[Upstream]:
        return [
            stream
            for stream in self.world.streams
            if stream.receiver is not None
            and not stream.over
            and not stream.answered
            and (stream.receiver.head is not None) is begun
        ]

    @precondition(lambda self: self._live(False))
    @rule(data=st.data(), status=STATUSES, body=st.sampled_from([b"", b"b"]))
    def answer(self, data: Any, status: int, body: bytes) -> None:
        data.draw(st.sampled_from(self._live(False))).answer(status, body)

    @precondition(lambda self: self._live(False))
    @rule(data=st.data(), code=CODES, messages=st.integers(0, 2))
    def answer_grpc(self, data: Any, code: int, messages: int) -> None:
        stream = data.draw(st.sampled_from(self._live(False)))
        stream.answer_grpc(*[message(b"a")] * messages, code=code)

    @precondition(lambda self: self._live(False))
    @rule(data=st.data(), status=STATUSES, grpc=st.booleans())
    def answer_head(self, data: Any, status: int, grpc: bool) -> None:
        data.draw(st.sampled_from(self._live(False))).head(status, GRPC if grpc else [])

    @precondition(lambda self: self._live(True))
    @rule(data=st.data(), size=st.sampled_from([0, 1, 70_000]), end=st.booleans())
    def answer_more(self, data: Any, size: int, end: bool) -> None:
        data.draw(st.sampled_from(self._live(True))).data(b"d" * size, end)

    @precondition(lambda self: self._live(True))
    @rule(data=st.data(), code=CODES)
    def answer_trailers(self, data: Any, code: int) -> None:
        data.draw(st.sampled_from(self._live(True))).trailers([(b"grpc-status", b"%d" % code)])

    @precondition(lambda self: self._live(True) or self._live(False))
    @rule(data=st.data(), failure=FAILURES)
    def fail(self, data: Any, failure: Failure) -> None:
        data.draw(st.sampled_from(self._live(True) + self._live(False))).fails(failure)

    @precondition(lambda self: self._live(False))
    @rule(data=st.data(), takes=st.booleans())
    def accept(self, data: Any, takes: bool) -> None:
        stream = data.draw(st.sampled_from(self._live(False)))
        if takes:
            stream.takes()
        else:
            stream.takes_more = False

    @rule(index=st.integers(0, 2), ttl=st.sampled_from([0.0, 1.0]))
    def drain(self, index: int, ttl: float) -> None:
        if index < len(self.world.endpoints):
            with self.world.turn_of():
                self.world.cluster.drain(self.world.endpoints[index], ttl)

    @rule(index=st.integers(0, 2), healthy=st.booleans())
    def check_health(self, index: int, healthy: bool) -> None:
        if index < len(self.world.endpoints):
            with self.world.turn_of():
                self.world.cluster.set_health(self.world.endpoints[index], healthy)

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.3, 1.1, 6.0]))
    def wait(self, seconds: float) -> None:
        self.world.after(seconds)

    # What always holds.

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        assert not world.crashes, world.crashes
        under_way = world.runtime.in_flight
        assert len(world.finished_exchanges) + under_way == len(self.clients)
        assert world.cluster.requests.in_use == under_way
        waiters = sum(len(pool.waiters) for each in world.endpoints for pool in each.pools.values())
        assert world.cluster.pending.in_use == waiters
        assert world.cluster.connections.in_use == len(world.connections) + len(world.connector.dials)
        for endpoint in world.endpoints:
            assert 0 <= endpoint.breaker.permits <= endpoint.in_flight  # type: ignore[attr-defined]
        for record in world.finished_exchanges:
            assert 0 <= record["attempts"] <= world.route.retry.attempts

    @invariant()
    def nothing_ran_twice_by_accident(self) -> None:
        if not hasattr(self, "world"):
            return
        for stream in self.world.streams:
            request = stream.request
            if request is None or request.method != b"POST" or request.path.startswith(b"/pkg.Read/"):
                continue
            if stream.receiver is not None and stream.receiver.number > 1:
                for earlier in stream.receiver.exchange.attempts:
                    assert earlier is stream.receiver or not earlier.failure.processed

    @invariant()
    def somebody_is_used_who_may_be(self) -> None:
        if not hasattr(self, "world") or self.world.cluster.ejection is None:
            return
        world = self.world
        now = world.clock.now
        there = [each for each in world.endpoints if each.drained_until <= now and each.breaker.state != OPEN]
        assert bool(there) == bool(world.cluster._usable)

    @invariant()
    def no_more_than_two_are_asked_at_once(self) -> None:
        if not hasattr(self, "world"):
            return
        under_way: dict[int, int] = {}
        for stream in self.world.streams:
            if stream.receiver is not None and not stream.over and not stream.receiver.settled:
                exchange = id(stream.receiver.exchange)
                under_way[exchange] = under_way.get(exchange, 0) + 1
        assert max(under_way.values(), default=0) <= 2

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for client in self._waiting():
            client.leaves()
            client.ended = True
        world.after(100.0)
        while world.connector.dials:
            world.connector.fails()
        world.after(100.0)
        world.at_rest()
        assert len(world.finished_exchanges) == len(self.clients)
        made = sum(self.hedging.results[result] for result in MADE)
        assert made <= sum(max(0, each["attempts"] - 1) for each in world.finished_exchanges)


Paths.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPaths = Paths.TestCase
