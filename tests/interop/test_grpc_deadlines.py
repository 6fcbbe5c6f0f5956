"""Deadlines, cancellation, and what both leave behind: nothing."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import grpc
import pytest

from sidecar.app import App
from sidecar.codec.grpc import parse_timeout
from sidecar.codec.h2 import CONNECTION_WINDOW
from sidecar.policy.breaker import CLOSED, OPEN
from tests.interop.grpc_calls import bidi, cluster_of, config, endpoint_of, eventually, quiet, streamed, through, unary
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
# More than any client below waits: only its own deadline, or the sidecar's, can end a call.
PATIENT = 30.0


def timeouts_seen(server: FaultServer) -> list[float]:
    """The grpc-timeout of every request, in seconds."""
    return [parse_timeout((request.header("grpc-timeout") or "").encode()) or 0.0 for request in server.requests]


async def test_a_clients_deadline_ends_a_hung_call_on_both_sides() -> None:
    async with FaultServer(then=faults.stall) as server, running(config(server.address)) as app:
        async with through(app) as channel:
            outcome = await unary(channel, "Unary", timeout=0.3)
            assert outcome.code is DEADLINE_EXCEEDED
            await server.until(lambda s: s.deserted == 1)  # RST_STREAM came: the server need not go on
            await quiet(app)
        (seen,) = timeouts_seen(server)
        assert 0 < seen <= 0.31  # grpcio rounds up


async def test_each_try_sees_less_time_and_the_whole_keeps_the_deadline() -> None:
    retry = {"attempts": 10, "idempotent": ["test.Echo/Unary"], "backoff": {"base": "1ms", "max": "1ms"}}
    async with (
        FaultServer(then=faults.stall) as server,
        running(config(server.address, timeouts={"try": "480ms"}, retry=retry, breaker={"consecutive": 0})) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", timeout=2.0)
        assert outcome.code is DEADLINE_EXCEEDED
        await quiet(app)
        seen = timeouts_seen(server)
        assert 2 <= len(seen) <= 5
        assert all(later < earlier for earlier, later in pairwise(seen))
        assert seen[0] <= 2.01
        assert seen[-1] <= 2.01 - 0.48 * (len(seen) - 1)
        assert _codes(app) == {("grpc", 4): 1}


async def test_a_hung_endpoint_is_found_out_by_its_clients_deadlines() -> None:
    """grpcio resets a call at its deadline, an instant before ours: it is no mere cancellation."""
    breaker = {"min_requests": 10, "open": {"base": "30s"}}
    async with (
        FaultServer(then=faults.stall) as server,
        running(config(server.address, breaker=breaker)) as app,
        through(app) as channel,
    ):
        outcomes = await asyncio.gather(*(unary(channel, "Unary", timeout=0.2) for _ in range(10)))
        assert {outcome.code for outcome in outcomes} == {DEADLINE_EXCEEDED}
        await quiet(app)
        assert endpoint_of(app).breaker.state == OPEN
        assert (await unary(channel, "Unary")).trailer("x-sidecar-error") == "breaker_open"


async def test_the_default_deadline_bounds_unary_calls_and_says_so() -> None:
    async with (
        FaultServer(then=faults.stall) as server,
        running(config(server.address, timeouts={"request": "150ms"})) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", timeout=None)
        assert outcome.code is DEADLINE_EXCEEDED
        assert outcome.trailer("x-sidecar-error") == "timeout"
        # The default is ours alone: a server that sees it would end streams by it.
        assert server.requests[0].header("grpc-timeout") is None
        await server.until(lambda s: s.deserted == 1)
        await quiet(app)


async def test_a_routes_timeout_narrows_the_clusters() -> None:
    listener = {"routes": [{"match": {"grpc": "test.Echo/Unary"}, "to": "rpc", "timeout": "120ms"}, {"to": "rpc"}]}
    async with (
        FaultServer(then=faults.stall) as server,
        running(config(server.address, listener=listener)) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", timeout=PATIENT)
        assert (outcome.code, outcome.trailer("x-sidecar-error")) == (DEADLINE_EXCEEDED, "timeout")
        assert (await unary(channel, "Other", timeout=0.25)).code is DEADLINE_EXCEEDED
        assert len(server.requests) == 2


async def test_no_timeout_at_all_can_be_asked_for(grpc_service: GrpcService) -> None:
    async with (
        running(config(grpc_service.address, timeouts={"request": 0})) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Slow", b"m", metadata=(("x-ms", "300"),), timeout=None)
        assert outcome.messages == (b"m",)
        seen = json.loads((await unary(channel, "Metadata", timeout=None)).messages[0])
        assert seen["remaining"] is None


async def test_a_deadline_that_is_over_touches_no_endpoint() -> None:
    async with FaultServer() as server, running(config(server.address)) as app, through(app) as channel:
        outcome = await unary(channel, "Unary", timeout=-1)
        assert outcome.code is DEADLINE_EXCEEDED
        await quiet(app)
        assert server.heads == []


async def test_a_clients_deadline_ends_a_stream(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address)) as app, through(app) as channel:
        outcome = await streamed(channel, "HangStream", b"m", timeout=0.3)
        assert (outcome.messages, outcome.code) == ((b"m",), DEADLINE_EXCEEDED)
        await eventually(lambda: grpc_service.cancelled == 1, "the server's call is cancelled")
        assert endpoint_of(app).breaker.counts(app.runtime.clock())[1] == 0
        await quiet(app)


async def test_a_stream_outlives_the_default_deadline_after_one_message(grpc_service: GrpcService) -> None:
    """Its head and first message may come in one read, as those of a unary call do."""
    timeouts = {"request": "200ms"}
    async with running(config(grpc_service.address, timeouts=timeouts)) as app, through(app) as channel:
        call = channel.unary_stream("/test.Echo/HangStream")(b"m")
        assert await call.read() == b"m"
        await asyncio.sleep(0.5)
        assert not call.done()
        call.cancel()
        await quiet(app)


@pytest.mark.parametrize("method", ["Hang", "HangStream", "Bidi"])
async def test_a_client_that_cancels_is_seen_by_the_server(grpc_service: GrpcService, method: str) -> None:
    async with running(config(grpc_service.address)) as app, through(app) as channel:
        if method == "Hang":
            call: Any = channel.unary_unary("/test.Echo/Hang")(b"")
            await eventually(lambda: grpc_service.calls["Hang"] == 1, "the call is under way")
        elif method == "HangStream":
            call = channel.unary_stream("/test.Echo/HangStream")(b"m")
            assert await call.read() == b"m"
        else:
            call = bidi(channel)
            await call.write(b"1")
            assert await call.read() == b"1"
        assert call.cancel()
        if method != "Bidi":
            await eventually(lambda: grpc_service.cancelled == 1, "the server's call is cancelled")
        await quiet(app)
        breaker = endpoint_of(app).breaker
        # Neither a success nor a failure of the endpoint.
        assert (breaker.state, breaker.counts(app.runtime.clock())) == (CLOSED, (0, 0))
        assert _codes(app) == {("grpc", 1): 1}


async def test_a_client_that_leaves_while_a_retry_waits() -> None:
    waits = [(b"grpc-retry-pushback-ms", b"10000")]
    async with (
        FaultServer(faults.grpc_trailers_only(14, "busy", waits)) as server,
        running(config(server.address, retry={"idempotent": ["test.Echo/*"]})) as app,
        through(app) as channel,
    ):
        call = channel.unary_unary("/test.Echo/Unary")(b"", timeout=PATIENT * 2)
        await eventually(lambda: sum(cluster_of(app).retries.values()) == 1, "the retry waits")
        call.cancel()
        await quiet(app)
        assert len(server.requests) == 1


async def test_a_server_that_resets_in_the_middle_of_a_stream() -> None:
    steps = (_message_then(faults.CANCEL), _message_then(faults.INTERNAL_ERROR))
    async with FaultServer(*steps) as server, running(config(server.address)) as app, through(app) as channel:
        for _ in range(2):
            outcome = await streamed(channel, "ServerStream")
            assert (outcome.messages, outcome.code) == ((b"m",), grpc.StatusCode.UNAVAILABLE)
            assert outcome.trailer("x-sidecar-error") == "reset"
        await quiet(app)


async def test_one_cancelled_call_leaves_nothing(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address, limits={"requests": 60})) as app, through(app) as channel:
        await unary(channel, "Unary")
        await quiet(app)
        before = _belongings(app)
        call = channel.unary_unary("/test.Echo/Hang")(b"x" * 100_000)
        await eventually(lambda: grpc_service.calls["Hang"] == 1, "the call is under way")
        call.cancel()
        for _ in range(20):
            outcomes = await asyncio.gather(*(unary(channel, "Unary", b"m" * 2_000) for _ in range(50)))
            assert {outcome.messages for outcome in outcomes} == {(b"m" * 2_000,)}
        await quiet(app)
        await eventually(lambda: _belongings(app) == before, "all is as it was")
        await eventually(lambda: grpc_service.cancelled == 1, "the service heard of it")


async def test_many_cancelled_calls_leave_the_window_whole() -> None:
    """Answers that are dropped in their middle give their bytes back to the connection."""
    async with GrpcService() as service, running(config(service.address)) as app, through(app) as channel:
        for _ in range(100):
            call = channel.unary_stream("/test.Echo/ServerStream")(b"x" * 200_000, metadata=(("x-count", "50"),))
            assert await call.read() == b"x" * 200_000
            call.cancel()
        assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
        await quiet(app)
        for connection in app._connector.connections:
            # Less than half may still wait to be told.
            assert connection.draining or connection.h2.local_window_size >= CONNECTION_WINDOW // 4


def _message_then(code: int) -> Any:
    async def step(exchange: Any) -> None:
        await exchange.request()
        await exchange.send_head(200, [(b"content-type", b"application/grpc")])
        await exchange.send_data(b"\x00\x00\x00\x00\x01m")
        exchange.abandon(code)

    return step


def _codes(app: App) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for route in app.runtime.snapshot.listeners["out"].table.routes:
        for target in route.targets:
            found |= target.codes
    return found


def _belongings(app: App) -> dict[str, object]:
    """What a leak would change."""
    return {
        "timers": len(app._timers),
        "tasks": len([task for task in asyncio.all_tasks() if "sidecar" in repr(task.get_coro())]),
        "connections": dict(app.runtime.connections),
        "dials": len(app._connector._dials),
        "starving": len(cluster_of(app).starving),
    }
