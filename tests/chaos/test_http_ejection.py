"""Ejection and panic with real servers: one that fails a part of its requests, and health
checks that fail everywhere at once."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from tests.chaos.watching import endpoint, eventually, metrics, watching
from tests.interop.setups import admin, config, session
from tests.support.http_service import HttpService
from tests.support.sidecar import running


class Unwell(HttpService):
    """Fails every third request to /empty, which no breaker minds, while `fails`; and its
    health check while `sick`."""

    def __init__(self, fails: bool = False, sick: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.sick = sick

    async def __aenter__(self) -> "Unwell":
        await self.start()
        return self

    async def _empty(self, request: web.Request) -> web.StreamResponse:
        failed = self.fails and self.calls["/empty"] % 3 == 0
        return web.Response(status=500 if failed else 200)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if self.sick else 200)


class Fleet:
    """Three servers of which the last fails each third request, behind a sidecar that takes
    turns between them, and callers that never stop."""

    def __init__(self, stack: AsyncExitStack, base: str) -> None:
        self._stack = stack
        self._base = base

    async def start(self) -> None:
        enter = self._stack.enter_async_context
        servers = [await enter(Unwell(fails=number == 2)) for number in range(3)]
        self.bad = servers[2]
        cluster: dict[str, Any] = {
            "balance": {"policy": "round_robin"},
            "retry": {"attempts": 1},
            "outlier_ejection": {"interval": "250ms", "min_requests": 20, "base": self._base},
        }
        self.app = await enter(running(config([server.address for server in servers], cluster)))
        self._client = await enter(session(self.app))
        self.events = await enter(watching(self.app))
        self.answered = 0
        callers = [asyncio.create_task(self._call()) for _ in range(8)]
        self._stack.push_async_callback(self._stop, callers)

    async def _call(self) -> None:
        while True:
            async with self._client.get("/empty"):
                self.answered += 1

    async def more(self, number: int) -> None:
        """Wait for so many further answers."""
        goal = self.answered + number
        await eventually(lambda: self.answered >= goal, f"{number} more answers")

    async def _stop(self, callers: list[asyncio.Task[None]]) -> None:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


async def test_who_fails_more_than_the_others_is_left_alone() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet(stack, base="30s")
        await fleet.start()
        bad = endpoint(fleet.app, 2)

        # When each is asked in turn, it is ejected, though its breaker has nothing against it
        out = await fleet.events.until("ejection", ejected=True)
        assert out.fields["endpoint"] == fleet.bad.address
        assert 0.6 < out.fields["success_rate"] < 0.72
        assert sum(bad.breaker.transitions.values()) == 0

        # Then it is asked no more, and who looks is told
        await eventually(lambda: not bad.in_flight, "what was under way there has ended")
        asked = fleet.bad.calls["/empty"]
        await fleet.more(200)
        assert fleet.bad.calls["/empty"] == asked
        seen = await metrics(fleet.app.address("admin"))
        assert seen.total("sidecar_endpoint_ejected") == seen.total("sidecar_ejections_total") == 1
        assert seen.total("sidecar_endpoint_ejected", endpoint=fleet.bad.address) == 1
        assert seen.total("sidecar_cluster_panics_total") == 0
        (shown,) = (await admin(fleet.app, "/api/clusters"))["clusters"]
        assert [each["ejected"] for each in shown["endpoints"]] == [False, False, True]


async def test_who_was_ejected_comes_back() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet(stack, base="100ms")
        await fleet.start()
        await fleet.events.until("ejection", ejected=True)
        fleet.bad.fails = False
        await fleet.events.until("ejection", ejected=False)
        asked = fleet.bad.calls["/empty"]
        await eventually(lambda: fleet.bad.calls["/empty"] > asked + 50, "it is asked again")


async def test_health_checks_that_fail_everywhere_are_not_believed_and_all_is_told() -> None:
    # Given two servers that work, and health checks that say that neither does
    cluster: dict[str, Any] = {
        "outlier_ejection": True,
        "health_check": {"http": {"path": "/status/1"}, "interval": "50ms", "fall": 1, "rise": 1},
    }
    async with (
        Unwell() as one,
        Unwell() as other,
        running(config([one.address, other.address], cluster)) as app,
        session(app) as client,
        watching(app) as events,
    ):
        one.sick = other.sick = True
        told = await events.until("panic", panic=True)
        assert (told.fields["out"], told.fields["of"]) == (2, 2)

        # When they are asked, they answer, and each answer says how it came to be
        async with client.get("/empty") as response:
            assert response.status == 200
            assert response.headers["x-sidecar-panic"] == "2 of 2 endpoints are out"
        seen = await metrics(app.address("admin"))
        assert seen.total("sidecar_cluster_panic", cluster="web") == 1
        assert seen.total("sidecar_cluster_panics_total", cluster="web") == 1
        assert seen.total("sidecar_endpoint_healthy", cluster="web") == 0
        (shown,) = (await admin(app, "/api/clusters"))["clusters"]
        assert shown["panic"] is True

        # And when the checks are well again it is over
        one.sick = other.sick = False
        await events.until("panic", panic=False)
        async with client.get("/empty") as response:
            assert (response.status, response.headers.get("x-sidecar-panic")) == (200, None)
