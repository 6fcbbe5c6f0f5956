"""Hedges with real services: one endpoint hangs, its callers do not, and it sees that nobody waits."""

import asyncio
from typing import Any

import grpc
from aiohttp import web

from tests.chaos.watching import metrics
from tests.interop import grpc_calls
from tests.interop.setups import admin, config, session
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService
from tests.support.sidecar import running

# Turns, so that every other first try goes to the one that hangs.
CLUSTER: dict[str, Any] = {"balance": {"policy": "round_robin"}, "hedge": {"after": "20ms", "budget": "100%"}}
CALLS = 20


class Hanging(HttpService):
    """Never answers /echo."""

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        return await self._hang(request)


class HangingRpc(GrpcService):
    """Never answers `Unary`."""

    async def _same(self, request: bytes, call: Any) -> bytes:
        return await self._hang(request, call)


async def test_http_is_answered_by_the_other_and_the_hanging_one_sees_the_cancellation() -> None:
    async with (
        Hanging(name="hangs") as hangs,
        HttpService(name="quick") as quick,
        running(config([hangs.address, quick.address], CLUSTER)) as app,
        session(app) as client,
    ):
        attempts = []
        for _ in range(CALLS):
            async with client.get("/echo") as response:
                assert (response.status, (await response.json())["service"]) == (200, "quick")
                attempts.append(response.headers.get("x-sidecar-attempts", "1"))

        # Half of the calls were sent to the one that hangs first, and cancelled there; on a busy
        # machine the other one may take 20 ms as well, and is hedged in vain
        assert attempts.count("2") >= CALLS // 2
        await grpc_calls.eventually(lambda: hangs.cancelled == hangs.calls["/echo"] >= CALLS // 2, "it sees them leave")
        await grpc_calls.quiet(app)
        seen = await metrics(app.address("admin"))
        assert seen.total("sidecar_hedges_total", cluster="web", result="won") == CALLS // 2
        assert seen.total("sidecar_attempts_total", endpoint=hangs.address, verdict="ignored") == attempts.count("2")
        assert seen.total("sidecar_breaker_state") == 0
        assert seen.total("sidecar_retries_total") == 0

        # And why can be read
        records = (await admin(app, "/api/requests?limit=50"))["requests"]
        why = f"try 1 at {hangs.address}: cancelled; try 2 (hedge) at {quick.address}: status 200"
        assert [record["kind"] for record in records if record["why"] == why] == ["retried"] * (CALLS // 2)
        (cluster,) = (await admin(app, "/api/clusters"))["clusters"]
        assert cluster["hedging"]["results"]["won"] == CALLS // 2


async def test_grpc_is_answered_by_the_other_and_the_hanging_one_sees_the_cancellation() -> None:
    async with (
        HangingRpc() as hangs,
        GrpcService() as quick,
        running(
            grpc_calls.config(
                hangs.address, quick.address, **CLUSTER, retry={"idempotent": ["test.Echo/Unary", "test.Echo/Slow"]}
            )
        ) as app,
        grpc_calls.through(app) as channel,
    ):
        outcomes = [await grpc_calls.unary(channel, "Unary", b"%d" % number) for number in range(CALLS)]
        assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.OK}
        assert [outcome.messages for outcome in outcomes] == [(b"%d" % number,) for number in range(CALLS)]
        await grpc_calls.eventually(
            lambda: hangs.cancelled == hangs.calls["Unary"] >= CALLS // 2, "each is cancelled at the one that hangs"
        )
        await grpc_calls.quiet(app)
        # One stream was cancelled each time: the connection goes on
        endpoint = grpc_calls.endpoint_of(app, 0)
        assert len(endpoint.pools["http2"].connections) == 1

        # A slow but living one may win against its hedge; many at a time as well
        slow = [("x-ms", "60")]
        outcomes = await asyncio.gather(*(grpc_calls.unary(channel, "Slow", b"s", slow) for _ in range(CALLS)))
        assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.OK}
        await grpc_calls.quiet(app)
        hedging = grpc_calls.cluster_of(app).hedging
        assert hedging is not None
        assert hedging.results["won"] + hedging.results["lost"] >= CALLS // 2 + CALLS


async def test_an_unlisted_call_is_not_asked_for_twice() -> None:
    async with (
        GrpcService() as one,
        GrpcService() as other,
        running(grpc_calls.config(one.address, other.address, **CLUSTER)) as app,
        grpc_calls.through(app) as channel,
    ):
        outcome = await grpc_calls.unary(channel, "Slow", b"s", [("x-ms", "60"), ("x-request-id", "7")])
        assert outcome.code is grpc.StatusCode.OK
        assert one.runs["7"] + other.runs["7"] == 1
        hedging = grpc_calls.cluster_of(app).hedging
        assert hedging is not None
        assert hedging.results["not_idempotent"] == 1


async def test_by_percentile_once_enough_is_known() -> None:
    cluster = {**CLUSTER, "hedge": {"after": "p50", "budget": "100%"}}
    async with (
        Hanging() as hangs,
        HttpService() as quick,
        running(config([hangs.address, quick.address], cluster)) as app,
        session(app) as client,
    ):
        for _ in range(60):
            async with client.get("/empty") as response:
                assert response.status == 200
        for _ in range(4):
            async with client.get("/echo") as response:
                assert response.status == 200
        await grpc_calls.eventually(lambda: hangs.cancelled == hangs.calls["/echo"] >= 2, "it sees them leave")
        (shown,) = (await admin(app, "/api/clusters"))["clusters"]
        assert shown["hedging"]["latency_ms"]["p50"] > 0
        assert shown["hedging"]["latency_ms"]["p99"] is None, "64 tries say nothing of the slowest percent"
