"""Case 2: a server that commits and then breaks. What ran may run again only where that is allowed."""

from typing import Any

import pytest

from sidecar.policy.breaker import CLOSED
from tests.chaos.watching import endpoint, metrics
from tests.interop.setups import QUICK, config, session
from tests.support import faults
from tests.support.fault_server import FaultServer, Step
from tests.support.sidecar import running

BREAKS = {
    "reset": faults.commit_then_reset,
    "close": faults.commit_then_close,
    "garbage": faults.garbage,
    "half-closed": faults.commit_then_half_close,
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_that_ran_and_is_not_idempotent_runs_once(method: str, broken: str) -> None:
    # Given a server that runs a request and breaks before its head
    async with (
        FaultServer(BREAKS[broken]) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
    ):
        # When it gets one that is not idempotent
        async with client.request(method, "/orders", data=b"one") as response:
            # Then the client is told, with the reason why nobody tried again
            assert response.status == 502
            assert response.headers["x-sidecar-error"] == "reset"
            assert response.headers["x-sidecar-retry-skipped"] == "not_idempotent"
            assert "x-sidecar-attempts" not in response.headers
        # And it ran once
        assert [request.body for request in server.requests] == [b"one"]
        seen = await metrics(app.address("admin"))
        assert seen.total("sidecar_retries_skipped_total", cluster="web", reason="not_idempotent") == 1
        assert seen.total("sidecar_retries_total", cluster="web") == 0


IDEMPOTENT: dict[str, tuple[str, str, dict[str, str]]] = {
    "put": ("PUT", "/orders/1", {}),
    "delete": ("DELETE", "/orders/1", {}),
    "key": ("POST", "/orders", {"Idempotency-Key": "7"}),
    "listed": ("POST", "/listed", {}),
    "listed with a query": ("POST", "/listed?x=1", {}),
    "listed by prefix": ("POST", "/under/a/b", {}),
    "listed, another method": ("PATCH", "/patched", {}),
}


@pytest.mark.parametrize("which", IDEMPOTENT)
async def test_a_request_that_may_run_twice_is_tried_again(which: str) -> None:
    method, path, headers = IDEMPOTENT[which]
    retry = {**QUICK, "idempotent": ["POST /listed", "POST /under/*", "PATCH /patched"]}
    async with (
        FaultServer(faults.commit_then_reset) as server,
        running(config([server.address], {"retry": retry})) as app,
        session(app) as client,
        client.request(method, path, data=b"one", headers=headers) as response,
    ):
        assert (response.status, response.headers["x-sidecar-attempts"]) == (200, "2")
        assert [request.body for request in server.requests] == [b"one", b"one"]
        assert [request.header("x-sidecar-attempt") for request in server.requests] == [None, "2"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/listed2"), ("PUT ", "/listed"), ("POST", "/under")])
async def test_what_is_only_nearly_listed_is_not_tried_again(method: str, path: str) -> None:
    retry = {**QUICK, "idempotent": ["POST /listed", "POST /under/*"]}
    async with (
        FaultServer(faults.commit_then_reset) as server,
        running(config([server.address], {"retry": retry})) as app,
        session(app) as client,
        client.request("POST", path if method == "POST" else "/listed/", data=b"one") as response,
    ):
        assert response.status == 502
        assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_was_never_sent_is_tried_elsewhere_whatever_its_method(method: str) -> None:
    # Given one endpoint where nobody listens
    cluster = {"retry": dict(QUICK), "balance": {"policy": "round_robin"}}
    async with (
        FaultServer() as server,
        running(config(["127.0.0.1:1", server.address], cluster)) as app,
        session(app) as client,
    ):
        for _ in range(4):
            async with client.request(method, "/", data=b"x" if method == "POST" else None) as response:
                assert response.status == 200
        assert len(server.requests) == 4
        assert endpoint(app, 1).verdicts[0] == 4


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_the_services_own_503_to_a_post_passes_untouched(status: int) -> None:
    step = faults.answer(status, b"sorry", [(b"x-mine", b"1")])
    async with (
        FaultServer(then=step) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
        client.post("/orders", data=b"one") as response,
    ):
        assert (response.status, await response.read(), response.headers["x-mine"]) == (status, b"sorry", "1")
        assert response.headers["x-sidecar-retry-skipped"] == "not_idempotent"
        assert "x-sidecar-error" not in response.headers
        assert len(server.requests) == 1


@pytest.mark.parametrize("step", [faults.stall, faults.head_then_stall])
async def test_a_post_that_times_out_ran_once(step: Step) -> None:
    timeouts = {"request": "200ms", "idle": "200ms"}
    async with (
        FaultServer(then=step) as server,
        running(config([server.address], {"retry": dict(QUICK), "timeouts": timeouts})) as app,
        session(app) as client,
    ):
        answer: Any = None
        try:
            async with client.post("/orders", data=b"one") as response:
                answer = response.status, response.headers.get("x-sidecar-error")
                await response.read()
        except Exception:
            answer = *answer, "broken off"
        assert answer == ((504, "timeout") if step is faults.stall else (200, None, "broken off"))
        await server.until(lambda server: server.deserted == 1)
        assert len(server.requests) == 1


async def test_a_post_behind_a_stale_connection_ran_once_at_most() -> None:
    # Given a kept connection that the server closes when the next request arrives
    async with (
        FaultServer(faults.ok, faults.commit_then_close) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
    ):
        async with client.get("/warm") as response:
            assert response.status == 200
        # When a POST was read by it, there is no telling that it was not run
        async with client.post("/orders", data=b"one") as response:
            assert (response.status, response.headers["x-sidecar-retry-skipped"]) == (502, "not_idempotent")
        assert [request.path for request in server.requests] == ["/warm", "/orders"]
        # And the endpoint is not blamed for it
        assert (endpoint(app).breaker.state, endpoint(app).verdicts[1]) == (CLOSED, 0)
