"""Events: kept, told, and lost by those who are too slow."""

import asyncio
from datetime import UTC, datetime

import pytest
import structlog.testing

from sidecar.telemetry.events import LOST, Events

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def events() -> Events:
    return Events(kept=3, now=lambda: NOON)


def test_the_latest_are_kept(events: Events) -> None:
    for number in range(5):
        events.publish("drain", {"number": number})
    assert [event.number for event in events.latest()] == [3, 4, 5]
    assert [event.number for event in events.latest(after=4)] == [5]
    assert events.latest()[0].as_dict() == {"time": NOON, "kind": "drain", "number": 2}


def test_a_number_of_an_earlier_run_is_before_everything(events: Events) -> None:
    events.publish("drain", {})
    assert [event.number for event in events.latest(after=900)] == [1]


async def test_a_subscriber_hears_what_comes_after(events: Events) -> None:
    events.publish("drain", {"number": 0})
    subscription = events.subscribe()
    events.publish("drain", {"number": 1})
    assert (await anext(subscription)).fields == {"number": 1}

    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert not waiting.done()
    events.publish("health", {"number": 2})
    assert (await waiting).kind == "health"


async def test_a_slow_subscriber_loses_the_oldest_and_is_told(events: Events) -> None:
    subscription = events.subscribe()
    for number in range(100):
        events.publish("drain", {"number": number})

    first = await anext(subscription)
    assert (first.kind, first.number) == (LOST, 0)
    lost = first.fields["count"]
    assert lost > 0
    assert (await anext(subscription)).fields == {"number": lost}


async def test_closing_ends_every_subscription(events: Events) -> None:
    subscription = events.subscribe()
    events.publish("drain", {})
    events.close()
    assert [event.kind async for event in subscription] == ["drain"]
    assert [event async for event in events.subscribe()] == []


async def test_who_has_left_hears_nothing(events: Events) -> None:
    subscription = events.subscribe()
    subscription.close()
    events.publish("drain", {})
    assert [event async for event in subscription] == []


def test_events_are_logged_and_bad_ones_as_warnings(events: Events) -> None:
    with structlog.testing.capture_logs() as logged:
        events.publish("breaker", {"cluster": "users", "from": "closed", "to": "open"})
        events.publish("breaker", {"from": "open", "to": "half_open"})
        events.publish("health", {"healthy": False})
        events.publish("reload", {"result": "rejected", "event": "taken"})
        events.publish("ejection", {"ejected": True})
        events.publish("ejection", {"ejected": False})
        events.publish("panic", {"panic": True})
        events.publish("panic", {"panic": False})
    levels = [(entry["event"], entry["log_level"]) for entry in logged]
    assert levels == [
        *[("breaker", "warning"), ("breaker", "info"), ("health", "warning"), ("reload", "warning")],
        *[("ejection", "warning"), ("ejection", "info"), ("panic", "warning"), ("panic", "info")],
    ]
    assert logged[0]["from"] == "closed"
    assert logged[3]["event_"] == "taken"
