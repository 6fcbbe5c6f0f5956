"""What happens beside the requests: breakers, health, reloads, draining.

The latest events are kept, and told to whoever subscribed. `publish` may be
called from the path of a request: it never waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.telemetry.logs import get_logger

_KEPT: Final = 256
# Events that a slow subscriber may be behind before it loses the oldest.
_BEHIND: Final = 64

# Told to a subscriber that lost events, with their `count`.
LOST: Final = "lost"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `number` counts from 1; 0 for LOST, which only its subscriber sees."""

    number: int
    time: datetime
    kind: str
    fields: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: time and kind first, then the event's own fields."""
        return {"time": self.time, "kind": self.kind, **self.fields}


class Subscription(AsyncIterator[Event]):
    """The events from now on. Ends when it, or the Events, are closed."""

    def __init__(self, events: "Events") -> None:
        self._events = events
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, event: Event) -> None:
        """One more; the oldest goes when there are too many."""
        if len(self._queue) >= _BEHIND:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(event)
        self._wake.set()

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(0, self._queue[0].time, LOST, {"count": lost})
        return self._queue.popleft()

    def close(self) -> None:
        """No more events."""
        self._closed = True
        self._wake.set()
        self._events.leave(self)


class Events:
    """The latest events, and those who wait for the next ones. `now` is UTC."""

    def __init__(self, kept: int = _KEPT, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._latest: deque[Event] = deque(maxlen=kept)
        self._number = 0
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self._log = get_logger("sidecar.events")

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Keep an event, tell the subscribers and log it."""
        self._number += 1
        event = Event(self._number, self._now(), kind, dict(fields))
        self._latest.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        # A field may be called like one of structlog's own.
        named = {f"{name}_" if name in ("event", "level", "timestamp") else name: fields[name] for name in fields}
        if _is_bad(kind, fields):
            self._log.warning(kind, **named)
        else:
            self._log.info(kind, **named)

    def latest(self, after: int = 0) -> list[Event]:
        """The kept events with a number above `after`, oldest first. A number that
        was never given out is of an earlier run of the process: then all of them."""
        if after > self._number:
            after = 0
        return [event for event in self._latest if event.number > after]

    def subscribe(self) -> Subscription:
        """Every event from now on. Close it."""
        subscription = Subscription(self)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Tell this one nothing any more."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription: the process stops."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()


def _is_bad(kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether an operator should look."""
    match kind:
        case "breaker":
            return fields.get("to") == "open"
        case "health":
            return fields.get("healthy") is False
        case "ejection":
            return bool(fields.get("ejected"))
        case "panic":
            return bool(fields.get("panic"))
        case "reload":
            return fields.get("result") == "rejected"
        case "overload":
            return bool(fields.get("level"))
        case "certificate":
            return fields.get("state") != "loaded"
        case "http2_abuse":
            return True
    return False
