"""Retries over HTTP: what they wait for, what stops them, and what the client then gets."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.chaos.watching import eventually, metrics
from tests.interop.setups import QUICK, admin, config, session
from tests.support import faults
from tests.support.fault_server import Exchange, FaultServer, Step
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running


async def test_retry_after_is_waited_for() -> None:
    moments: list[float] = []

    def noted(then: Step) -> Step:
        async def step(exchange: Exchange) -> None:
            moments.append(time.monotonic())
            await then(exchange)

        return step

    asks = faults.answer(503, b"later", [(b"retry-after", b"1")])
    async with (
        FaultServer(noted(asks), noted(faults.ok)) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.get("/") as response,
    ):
        assert (response.status, response.headers["x-sidecar-attempts"]) == (200, "2")
    # Not before the second that the server asked for: its own word, not a measure of ours.
    assert moments[1] - moments[0] >= 1.0


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    step = faults.answer(503, b"later", [(b"retry-after", b"3600")])
    async with (
        FaultServer(then=step) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.get("/") as response,
    ):
        assert (response.status, await response.read()) == (503, b"later")
        assert response.headers["retry-after"] == "3600"
        assert response.headers["x-sidecar-retry-skipped"] == "deadline"
        assert len(server.requests) == 1


@pytest.mark.parametrize("length", [6, 200_000])
async def test_exhausted_retries_give_the_last_real_answer(length: int) -> None:
    steps = [faults.answer(503, b"first"), faults.answer(502, b"second"), faults.answer(504, pattern(length))]
    async with (
        FaultServer(*steps) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.get("/") as response,
    ):
        assert (response.status, await response.read()) == (504, pattern(length))
        assert response.headers["x-sidecar-attempts"] == "3"
        assert response.headers["x-sidecar-retry-skipped"] == "attempts"
        assert "x-sidecar-error" not in response.headers
        assert len(server.requests) == 3


async def test_the_last_real_answer_survives_a_worse_end() -> None:
    # Given a 503 with a body and trailers, and then only resets
    steps = [faults.answer(503, b"sorry", trailers=[(b"x-why", b"full")]), faults.commit_then_reset]
    async with (
        FaultServer(*steps, then=faults.commit_then_reset) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.get("/") as response,
    ):
        assert (response.status, await response.read()) == (503, b"sorry")
        assert len(server.requests) == 3


async def test_an_exhausted_budget_is_seen_in_header_and_metrics() -> None:
    # Given a budget of one retry in ten seconds
    retry = {**QUICK, "budget": {"ratio": 0, "floor": 0.1}}
    cluster = {"retry": retry, "breaker": {"consecutive": 0, "failure_ratio": 1, "min_requests": 1000}}
    async with (
        FaultServer(then=faults.answer(503)) as server,
        running(config([server.address], cluster)) as app,
        session(app) as client,
    ):
        skipped = []
        for _ in range(5):
            async with client.get("/") as response:
                assert response.status == 503
                skipped.append(response.headers["x-sidecar-retry-skipped"])
        assert skipped == ["budget"] * 5
        assert len(server.requests) == 6
        seen = await metrics(app.address("admin"))
        assert seen.total("sidecar_retries_total", cluster="web", reason="503") == 1
        assert seen.total("sidecar_retries_skipped_total", cluster="web", reason="budget") == 5
        assert seen.total("sidecar_retry_budget_remaining", cluster="web") < 1
        assert (await admin(app, "/api/clusters/web"))["retries_skipped"]["budget"] == 5


async def test_a_body_beyond_the_replay_limit_is_not_sent_twice() -> None:
    async with (
        FaultServer(faults.commit_then_reset) as server,
        running(config([server.address], {"retry": {**QUICK, "replay": "64KiB"}})) as app,
        session(app) as client,
    ):
        async with client.put("/", data=pattern(100_000)) as response:
            assert (response.status, response.headers["x-sidecar-retry-skipped"]) == (502, "too_large")
        assert len(server.requests) == 1
        # Within the limit it is.
        server.steps.extend([faults.ok, faults.commit_then_reset])
        for _ in range(2):
            async with client.put("/", data=pattern(60_000)) as response:
                assert response.status == 200
        assert [len(request.body) for request in server.requests] == [100_000, 60_000, 60_000, 60_000]


async def test_a_retry_goes_on_while_the_body_is_still_coming() -> None:
    # Given a first try that breaks in the middle of an upload
    first, second = pattern(3000), pattern(5000)
    broke = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        await broke.wait()
        yield second

    async def break_off(exchange: Exchange) -> None:
        await exchange.head()
        while len(exchange.connection.buffer) < len(first):
            await exchange.connection.fill()
        exchange.connection.reset()
        broke.set()

    async with (
        FaultServer(break_off) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.put("/", data=pieces()) as response,
    ):
        assert (response.status, response.headers["x-sidecar-attempts"]) == (200, "2")
        # Then the second one got what was sent before, and the rest
        assert [request.body for request in server.requests] == [first + second]


async def test_a_try_timeout_goes_elsewhere() -> None:
    cluster = {"retry": dict(QUICK), "timeouts": {"try": "100ms"}, "balance": {"policy": "round_robin"}}
    async with (
        FaultServer(then=faults.stall) as hung,
        FaultServer() as well,
        running(config([hung.address, well.address], cluster)) as app,
        session(app) as client,
    ):
        answers = []
        for _ in range(2):
            async with client.get("/") as response:
                answers.append((response.status, response.headers.get("x-sidecar-attempts")))
        assert sorted(answers, key=str) == [(200, "2"), (200, None)]
        await hung.until(lambda server: server.deserted == 1)


async def test_hung_servers_answer_within_the_timeout(http_service: HttpService) -> None:
    cluster = {"timeouts": {"request": "200ms"}}
    async with running(config([http_service.address], cluster)) as app, session(app) as client:
        async with client.get("/hang") as response:
            assert (response.status, response.headers["x-sidecar-error"]) == (504, "timeout")
        await eventually(lambda: http_service.cancelled == 1, "the service sees that nobody waits")
        # The head was in time: the body is bounded by the idle timeout alone.
        async with client.get("/stream?id=s&chunks=1") as response:
            await asyncio.sleep(0.3)
            http_service.release("s")
            assert await response.read() == b"chunk 0\n"


async def test_redirects_and_errors_of_the_client_are_not_tried_again(http_service: HttpService) -> None:
    async with (
        running(config([http_service.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
    ):
        for code in (301, 400, 404, 429, 500):
            async with client.get(f"/status/{code}", allow_redirects=False) as response:
                assert response.status == code
                assert "x-sidecar-retry-skipped" not in response.headers
            assert http_service.calls[f"/status/{code}"] == 1
