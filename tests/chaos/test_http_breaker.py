"""Case 5: the breaker in front of real servers."""

import asyncio

from sidecar.app import App
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from tests.chaos.watching import endpoint, metrics, watching
from tests.interop.setups import admin, config, session
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import HttpService
from tests.support.sidecar import running

BREAKER = {"consecutive": 3, "open": {"base": "100ms", "max": "100ms"}}
CLUSTER = {"breaker": BREAKER, "retry": {"attempts": 1}}


async def test_open_rejects_one_caller_probes_and_success_closes() -> None:
    gate = asyncio.Event()
    steps = [faults.commit_then_reset] * 3 + [faults.gated(gate)]
    async with (
        FaultServer(*steps) as server,
        running(config([server.address], CLUSTER)) as app,
        session(app) as client,
        watching(app) as events,
    ):

        async def call() -> tuple[int, str | None]:
            async with client.get("/") as response:
                return response.status, response.headers.get("x-sidecar-error")

        # Given as many failures as the threshold says
        assert [await call() for _ in range(3)] == [(502, "reset")] * 3
        # When the next call comes, it is rejected without any contact
        contacts = len(server.connections)
        assert endpoint(app).breaker.state == OPEN
        assert await call() == (503, "breaker_open")
        assert (len(server.connections), len(server.heads)) == (contacts, 3)
        # And when the open time is over, exactly one of fifty callers gets through
        await events.until("breaker", to="half_open")
        calls = [asyncio.create_task(call()) for _ in range(50)]
        await server.until(lambda server: len(server.requests) == 4)
        while sum(each.done() for each in calls) < 49:
            await asyncio.wait([each for each in calls if not each.done()], return_when=asyncio.FIRST_COMPLETED)
        assert [each.result() for each in calls if each.done()] == [(503, "breaker_open")] * 49
        assert endpoint(app).breaker.state == HALF_OPEN
        # And its success closes the breaker
        gate.set()
        assert {await each for each in calls} == {(200, None), (503, "breaker_open")}
        assert endpoint(app).breaker.state == CLOSED
        assert [await call() for _ in range(10)] == [(200, None)] * 10
        await _told_everywhere(app)


async def _told_everywhere(app: App) -> None:
    seen = await metrics(app.address("admin"))
    changes = "sidecar_breaker_transitions_total"
    assert seen.total(changes, **{"from": "closed", "to": "open"}) == 1
    assert seen.total(changes, **{"from": "open", "to": "half_open"}) == 1
    assert seen.total(changes, **{"from": "half_open", "to": "closed"}) == 1
    assert seen.total("sidecar_breaker_state", cluster="web") == 0
    assert seen.total("sidecar_local_replies_total", cluster="web", reason="breaker_open") == 50
    assert (await admin(app, "/api/clusters/web"))["endpoints"][0]["breaker"] == "closed"


async def test_a_failed_probe_opens_it_again() -> None:
    async with (
        FaultServer(*[faults.commit_then_reset] * 4) as server,
        running(config([server.address], CLUSTER)) as app,
        session(app) as client,
        watching(app) as events,
    ):
        for _ in range(3):
            async with client.get("/"):
                pass
        await events.until("breaker", to="half_open")
        async with client.get("/") as response:
            assert (response.status, response.headers["x-sidecar-error"]) == (502, "reset")
        await events.until("breaker", to="open")
        await events.until("breaker", to="half_open")
        async with client.get("/") as response:
            assert response.status == 200
        assert endpoint(app).breaker.state == CLOSED


async def test_a_cancelled_probe_hands_its_permit_on_and_closes_nothing() -> None:
    steps = [faults.commit_then_reset] * 3 + [faults.stall]
    async with (
        FaultServer(*steps) as server,
        running(config([server.address], CLUSTER)) as app,
        session(app) as client,
        watching(app) as events,
    ):
        for _ in range(3):
            async with client.get("/"):
                pass
        await events.until("breaker", to="half_open")
        probe = asyncio.create_task(client.get("/")._coro)
        await server.until(lambda server: len(server.requests) == 4)
        probe.cancel()
        await server.until(lambda server: server.deserted == 1)
        assert endpoint(app).breaker.state == HALF_OPEN
        async with client.get("/") as response:
            assert response.status == 200
        assert endpoint(app).breaker.state == CLOSED


async def test_a_probe_that_streams_closes_when_it_is_established(http_service: HttpService) -> None:
    async with (
        running(config([http_service.address], CLUSTER)) as app,
        session(app) as client,
        watching(app) as events,
    ):
        for _ in range(3):
            async with client.get("/status/500"):
                pass
        assert endpoint(app).breaker.state == OPEN
        await events.until("breaker", to="half_open")
        async with client.get("/stream?id=s&chunks=1"):
            # The stream is still under way.
            assert endpoint(app).breaker.state == CLOSED
            http_service.release("s")


async def test_a_failure_ratio_opens_it_although_there_are_successes_between() -> None:
    steps = [faults.answer(500), faults.ok] * 5
    cluster = {"breaker": {"consecutive": 0, "min_requests": 10}, "retry": {"attempts": 1}}
    async with (
        FaultServer(*steps) as server,
        running(config([server.address], cluster)) as app,
        session(app) as client,
    ):
        for _ in range(9):
            async with client.get("/"):
                assert endpoint(app).breaker.state == CLOSED
        async with client.get("/"):
            pass
        assert endpoint(app).breaker.state == CLOSED  # a success never opens
        async with client.get("/") as response:
            assert response.status == 200
        # Five of eleven failed: below the ratio.
        assert endpoint(app).breaker.state == CLOSED


async def test_a_clients_own_mistakes_open_nothing(http_service: HttpService) -> None:
    async with running(config([http_service.address], CLUSTER)) as app, session(app) as client:
        for code in (400, 401, 404, 409, 429, 501) * 4:
            async with client.get(f"/status/{code}") as response:
                assert response.status == code
        assert endpoint(app).breaker.state == CLOSED
