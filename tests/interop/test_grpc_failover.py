"""Endpoints that die, restart and go away while gRPC calls are under way."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from sidecar.policy.breaker import CLOSED
from tests.interop.grpc_calls import (
    Outcome,
    bidi,
    cluster_of,
    config,
    endpoint_of,
    eventually,
    quiet,
    through,
    unary,
)
from tests.support import faults
from tests.support.fault_h2 import Http2Exchange
from tests.support.fault_server import Exchange, FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.processes import Processes
from tests.support.sidecar import running

OK = grpc.StatusCode.OK
LISTED: dict[str, Any] = {
    "retry": {"idempotent": ["test.Echo/*"], "backoff": {"base": "5ms", "max": "20ms"}},
    "breaker": {"open": {"base": "200ms", "max": "400ms"}},
}


class Load:
    """Callers that call on until told to stop; what came of it, by code and message."""

    def __init__(self, call: Callable[[], Awaitable[Outcome]], callers: int = 16) -> None:
        self.outcomes: Counter[tuple[str, str | None]] = Counter()
        self._call = call
        self._stopping = False
        self._callers = [asyncio.create_task(self._run()) for _ in range(callers)]

    @property
    def calls(self) -> int:
        return self.outcomes.total()

    async def _run(self) -> None:
        while not self._stopping:
            outcome = await self._call()
            self.outcomes[outcome.code.name, outcome.details] += 1

    async def more(self, number: int) -> None:
        """Wait for so many further calls."""
        goal = self.calls + number
        await eventually(lambda: self.calls >= goal, f"{number} more calls")

    async def stop(self) -> Counter[tuple[str, str | None]]:
        self._stopping = True
        await asyncio.gather(*self._callers)
        return self.outcomes


async def test_a_killed_endpoint_fails_no_listed_call(processes: Processes) -> None:
    services = [await processes.service("tests.support.grpc_service") for _ in range(3)]
    victim = services[0]
    async with (
        running(config(*(service.address for service in services), **LISTED)) as app,
        through(app) as channel,
    ):
        load = Load(lambda: unary(channel, "Unary", b"m"))
        await load.more(300)
        dead = endpoint_of(app, 0)
        assert dead.verdicts[0]
        victim.kill()
        await load.more(300)
        # Out: its breaker is open or probing, and nearly nothing is sent there.
        await eventually(lambda: dead.breaker.state != CLOSED, "the breaker of the dead one opens")
        await load.more(300)
        await victim.restart()
        await eventually(lambda: dead.breaker.state == CLOSED, "the breaker closes again")
        back = dead.verdicts[0]
        await eventually(lambda: dead.verdicts[0] > back + 10, "it takes its share again")
        outcomes = await load.stop()
        assert outcomes == {("OK", ""): outcomes.total()}
        attempts = sum(sum(endpoint.verdicts) for endpoint in cluster_of(app).endpoints)
        assert attempts <= 1.2 * outcomes.total()
        await quiet(app)


class GoesAway:
    """Says GOAWAY at every 200th stream of a connection: serves that one, ignores those above it."""

    def __init__(self) -> None:
        self.served = 0
        self._last: dict[int, int] = {}

    async def __call__(self, exchange: Exchange) -> None:
        assert isinstance(exchange, Http2Exchange)
        head = await exchange.head()
        last = self._last.get(head.connection)
        if last is not None and head.stream > last:
            return
        if last is None and exchange.connection.requests >= 200:
            self._last[head.connection] = head.stream
            exchange.goaway(head.stream)
        self.served += 1
        await faults.grpc_answer(b"m")(exchange)


async def test_goaway_under_load_fails_no_call_and_repeats_none() -> None:
    behaviour = GoesAway()
    async with FaultServer(then=behaviour) as server, running(config(server.address)) as app, through(app) as channel:
        load = Load(lambda: unary(channel, "Unary"))
        await load.more(1_000)
        outcomes = await load.stop()
        assert outcomes == {("OK", ""): outcomes.total()}
        assert behaviour.served == outcomes.total()
        assert len(server.connections) >= 4
        await quiet(app)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_graceful_restart_of_a_grpcio_server(listed: bool) -> None:
    """grpcio answers calls that it has read but not begun with CANCELLED, to anybody: a code
    like any other, which passes through unless it is listed."""
    policies: dict[str, Any] = {}
    if listed:
        policies["retry"] = {**LISTED["retry"], "grpc_on": ["unavailable", "cancelled"]}
    first, second = GrpcService(), GrpcService()
    async with (
        first,
        second,
        running(config(first.address, second.address, **policies)) as app,
        through(app) as channel,
    ):
        load = Load(lambda: unary(channel, "Unary", b"m"))
        for service in (first, second, first):
            await load.more(100)
            await service.stop(grace=5)
            await load.more(100)
            await service.start()
            await eventually(
                lambda: all(endpoint.breaker.state == CLOSED for endpoint in cluster_of(app).endpoints),
                "the breakers of both are closed",
            )
        outcomes = await load.stop()
        assert set(outcomes) <= ({("OK", "")} if listed else {("OK", ""), ("CANCELLED", "CANCELLED")})
        await quiet(app)


async def test_streams_of_a_server_that_goes_away_end_in_their_own_time() -> None:
    first, second = GrpcService(), GrpcService()
    async with first, second, running(config(first.address, second.address)) as app, through(app) as channel:
        calls = [bidi(channel) for _ in range(8)]
        for call in calls:
            await call.write(b"1")
            assert await call.read() == b"1"
        stopping = asyncio.create_task(first.stop(grace=5))
        for _ in range(20):
            assert (await unary(channel, "Unary")).code is OK
        for call in calls:
            await call.write(b"2")
            assert await call.read() == b"2"
            await call.done_writing()
            assert await call.code() is OK
        await stopping
        await quiet(app)


async def test_streams_of_a_killed_server_end_and_others_go_on(processes: Processes) -> None:
    victim = await processes.service("tests.support.grpc_service")
    async with GrpcService() as other, running(config(victim.address, other.address)) as app, through(app) as channel:
        calls = [bidi(channel) for _ in range(12)]
        for call in calls:
            await call.write(b"1")
            assert await call.read() == b"1"
        victim.kill()
        lost = endpoint_of(app, 0)
        await eventually(lambda: lost.in_flight == 0, "its streams have ended")
        codes = []
        for call in calls:
            if not call.done():
                await call.done_writing()
            codes.append(await call.code())
        assert set(codes) <= {OK, grpc.StatusCode.UNAVAILABLE}
        assert codes.count(OK) == other.calls["Bidi"]
        await quiet(app)
