"""/api/events: server-sent events (WHATWG HTML, "Server-sent events")."""

import asyncio
from typing import Final

import orjson
from aiohttp import web

from sidecar.admin.answers import refusal
from sidecar.admin.operations import Operations
from sidecar.telemetry.events import Event, Subscription

_HEARTBEAT_SECONDS: Final = 15.0
# How long a client waits, in milliseconds, before it connects again.
_RETRY: Final = b"retry: 2000\n\n"
_HEARTBEAT: Final = b": still here\n\n"
_LONGEST_ID: Final = 18
# Each holds a connection and a queue.
MOST_SUBSCRIBERS: Final = 32


class EventViews:
    """The events as they happen."""

    def __init__(self, operations: Operations, heartbeat: float = _HEARTBEAT_SECONDS) -> None:
        self._operations = operations
        self._heartbeat = heartbeat
        self._followers = 0

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Events from now on; with Last-Event-ID first those that were missed.

        A client that reads too slowly is told how many it lost, by an event `lost`.
        """
        if self._followers >= MOST_SUBSCRIBERS:
            return refusal(503, "too_many", f"{MOST_SUBSCRIBERS} clients follow the events already")
        self._followers += 1
        try:
            return await self._follow(request)
        finally:
            self._followers -= 1

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
        )
        # Subscribed and looked up in one step: nothing is missed, nothing told twice.
        subscription = self._operations.events.subscribe()
        try:
            missed = self._missed(request)
            await response.prepare(request)
            await response.write(_RETRY + b"".join(map(_frame, missed)))
            await self._tell(response, subscription)
        except ConnectionError:
            pass  # the client left
        finally:
            subscription.close()
        return response

    async def _tell(self, response: web.StreamResponse, subscription: Subscription) -> None:
        while True:
            try:
                async with asyncio.timeout(self._heartbeat):
                    event = await anext(subscription)
            except TimeoutError:
                await response.write(_HEARTBEAT)
            except StopAsyncIteration:
                return
            else:
                await response.write(_frame(event))

    def _missed(self, request: web.Request) -> list[Event]:
        last = request.headers.get("Last-Event-ID", "")
        if not (last.isascii() and last.isdigit() and len(last) <= _LONGEST_ID):
            return []
        return self._operations.events.latest(int(last))


def _frame(event: Event) -> bytes:
    data = orjson.dumps(event.as_dict(), option=orjson.OPT_UTC_Z, default=str)
    number = b"id: %d\n" % event.number if event.number else b""
    return b"%sevent: %s\ndata: %s\n\n" % (number, event.kind.encode(), data)
