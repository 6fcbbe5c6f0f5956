"""Server-sent events."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.admin.server import AdminServer
from sidecar.admin.stream import EventViews
from sidecar.telemetry.events import Subscription
from tests.admin.conftest import Client, FakeSidecar


class Stream:
    """Reads the frames of an answer."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def frame(self) -> dict[str, str]:
        """The fields of the next frame; a comment's is the empty one."""
        fields: dict[str, str] = {}
        while (line := (await self._response.content.readline()).decode().rstrip("\n")) or not fields:
            name, _, text = line.partition(": ")
            fields[name.rstrip(":")] = text
            if self._response.content.at_eof():
                break
        return fields

    async def event(self) -> tuple[str, Any]:
        frame = await self.frame()
        return frame["event"], json.loads(frame["data"])


async def test_events_come_as_they_happen(client: Client, sidecar: FakeSidecar) -> None:
    sidecar.events.publish("drain", {"before": True})
    async with client.session.get(f"{client.base}/api/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        stream = Stream(response)
        assert await stream.frame() == {"retry": "2000"}

        sidecar.events.publish("breaker", {"cluster": "users", "to": "open"})

        frame = await stream.frame()
        assert (frame["id"], frame["event"]) == ("2", "breaker")
        data = json.loads(frame["data"])
        assert data.pop("time").endswith("Z")
        assert data == {"kind": "breaker", "cluster": "users", "to": "open"}


async def test_last_event_id_brings_what_was_missed(client: Client, sidecar: FakeSidecar) -> None:
    for number in range(1, 4):
        sidecar.events.publish("drain", {"number": number})
    async with client.session.get(f"{client.base}/api/events", headers={"Last-Event-ID": "1"}) as response:
        stream = Stream(response)
        await stream.frame()
        assert [(await stream.event())[1]["number"] for _ in range(2)] == [2, 3]
        sidecar.events.publish("drain", {"number": 4})
        assert (await stream.event())[1]["number"] == 4


@pytest.mark.parametrize("last", ["x", "-1", "9" * 5000])
async def test_a_bad_last_event_id_is_none(client: Client, sidecar: FakeSidecar, last: str) -> None:
    sidecar.events.publish("drain", {"number": 1})
    async with client.session.get(f"{client.base}/api/events", headers={"Last-Event-ID": last}) as response:
        stream = Stream(response)
        await stream.frame()
        sidecar.events.publish("drain", {"number": 2})
        assert (await stream.event())[1]["number"] == 2


async def test_a_heartbeat_keeps_the_connection(client: Client, sidecar: FakeSidecar) -> None:
    app = web.Application()
    app.router.add_get("/events", EventViews(sidecar, heartbeat=0.001).follow)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with client.session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/events") as response:
            stream = Stream(response)
            await stream.frame()
            assert await stream.frame() == {"": "still here"}
            # The heartbeat's timeout must not have cost the subscription.
            sidecar.events.publish("drain", {})
            while "event" not in await stream.frame():
                pass
    finally:
        sidecar.events.close()
        await runner.cleanup()


async def test_the_stream_ends_when_the_sidecar_stops(client: Client, sidecar: FakeSidecar) -> None:
    async with client.session.get(f"{client.base}/api/events") as response:
        await Stream(response).frame()
        sidecar.events.close()
        assert await response.content.read() == b""


async def test_a_client_that_leaves_is_forgotten(
    client: Client, sidecar: FakeSidecar, server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()
    leave = sidecar.events.leave

    def watched(subscription: Subscription) -> None:
        leave(subscription)
        left.set()

    monkeypatch.setattr(sidecar.events, "leave", watched)
    async with client.session.get(f"{client.base}/api/events") as response:
        await Stream(response).frame()
    while not left.is_set():
        sidecar.events.publish("drain", {})  # the close is noticed by a write, at the latest
        await asyncio.sleep(0.001)
    assert left.is_set()
