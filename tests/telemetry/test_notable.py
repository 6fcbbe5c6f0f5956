"""Which requests are kept, and what is said of them."""

from datetime import UTC, datetime

from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy.breaker import OPEN
from sidecar.telemetry.notable import Notable
from tests.telemetry.parts import Ended, Parts

ADDRESSES = ("10.0.0.1:80", "10.0.0.2:80")


def kinds(notable: Notable) -> list[str]:
    return [record["kind"] for record in notable.latest(1000)]


def test_an_ordinary_request_is_not_kept(parts: Parts) -> None:
    notable = Notable()
    ended = Ended(parts, parts.cluster("users", *ADDRESSES))
    ended.attempt(1, Verdict.SUCCESS, status=200, seconds=0.5)
    notable.finished(ended.end())
    assert notable.latest(10) == []


def test_a_retried_request_says_why(parts: Parts) -> None:
    notable = Notable(now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    users = parts.cluster("users", *ADDRESSES)
    ended = Ended(parts, users)
    ended.attempt(1, Verdict.FAILURE, failure=Failure.RESET, seconds=0.02)
    parts.clock.advance(0.03)  # backoff
    ended.attempt(2, Verdict.SUCCESS, status=200, seconds=0.25)

    notable.finished(ended.end(refused=(users.endpoints[1],)))

    (record,) = notable.latest(10)
    assert record["kind"] == "retried"
    assert record["time"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert record["tries"] == [
        {
            "number": 1,
            "endpoint": "10.0.0.1:80",
            "hedge": False,
            "verdict": "failure",
            "failure": "reset",
            "detail": None,
            "status": None,
            "started_ms": 0.0,
            "duration_ms": 20.0,
        },
        {
            "number": 2,
            "endpoint": "10.0.0.2:80",
            "hedge": False,
            "verdict": "success",
            "failure": None,
            "detail": None,
            "status": 200,
            "started_ms": 50.0,
            "duration_ms": 250.0,
        },
    ]
    assert record["breaker_refused"] == ["10.0.0.2:80"]
    assert record["retry_budget_remaining"] == 100
    assert record["why"] == (
        "try 1 at 10.0.0.1:80: reset; try 2 at 10.0.0.2:80: status 200; breaker refused 10.0.0.2:80"
    )


def test_where_all_breakers_are_open_they_are_named(parts: Parts) -> None:
    notable = Notable()
    users = parts.cluster("users", *ADDRESSES)
    for endpoint in users.endpoints:
        endpoint.breaker.state = OPEN
    notable.finished(Ended(parts, users).end(status=503, failure=Failure.BREAKER_OPEN, answered=False))

    (record,) = notable.latest(10)
    assert record["breaker_refused"] == list(ADDRESSES)
    assert record["why"] == "breaker refused 10.0.0.1:80, 10.0.0.2:80; answered with breaker_open"


def test_a_failed_request_names_the_decision_against_another_try(parts: Parts) -> None:
    notable = Notable()
    ended = Ended(parts, parts.cluster("users", *ADDRESSES))
    ended.attempt(1, Verdict.FAILURE, failure=Failure.RESET)
    notable.finished(ended.end(status=502, failure=Failure.RESET, skipped=Skipped.NOT_IDEMPOTENT, answered=False))

    (record,) = notable.latest(10)
    assert record["kind"] == "failed"
    assert record["why"] == "try 1 at 10.0.0.1:80: reset; no further try: not_idempotent"


def test_an_error_of_the_service_is_a_failed_request(parts: Parts) -> None:
    notable = Notable()
    ended = Ended(parts, parts.cluster("users", *ADDRESSES))
    ended.attempt(1, Verdict.SOFT_FAILURE, status=200)
    notable.finished(ended.end(code=14))
    assert kinds(notable) == ["failed"]


def test_a_reply_without_a_try_is_a_failed_request(parts: Parts) -> None:
    notable = Notable()
    notable.finished(Ended(parts, parts.cluster("users", *ADDRESSES)).end(status=503, failure=Failure.OVERLOADED))
    (record,) = notable.latest(10)
    assert (record["kind"], record["tries"], record["why"]) == ("failed", [], "answered with overloaded")


def test_slow_is_more_than_a_second_until_the_head(parts: Parts) -> None:
    notable = Notable()
    users = parts.cluster("users", *ADDRESSES)
    slow, download = Ended(parts, users), None
    slow.attempt(1, Verdict.SUCCESS, status=200, seconds=1.5)
    notable.finished(slow.end())
    download = Ended(parts, users)
    download.attempt(1, Verdict.SUCCESS, status=200, seconds=60.0, to_head=0.1)
    notable.finished(download.end())

    (record,) = notable.latest(10)
    assert (record["kind"], record["duration_ms"]) == ("slow", 1500.0)


def test_where_many_are_slow_only_the_slowest_are_kept(parts: Parts) -> None:
    notable = Notable()
    users = parts.cluster("users", *ADDRESSES)
    for _ in range(200):
        users.durations.record(5.0)  # a bucket from 4 to 8 s
    for seconds in (3.0, 6.0):
        ended = Ended(parts, users)
        ended.attempt(1, Verdict.SUCCESS, status=200, seconds=seconds)
        notable.finished(ended.end())
    assert [record["duration_ms"] for record in notable.latest(10)] == [6000.0]


def test_a_client_that_leaves_is_no_failure_unless_it_waited_long(parts: Parts) -> None:
    notable = Notable()
    users = parts.cluster("users", *ADDRESSES)
    for seconds in (0.1, 2.0):
        ended = Ended(parts, users)
        ended.attempt(1, Verdict.IGNORED, seconds=seconds)
        notable.finished(ended.end(status=499, failure=Failure.CANCELLED))
    assert [(record["kind"], record["duration_ms"]) for record in notable.latest(10)] == [("slow", 2000.0)]


def test_a_skipped_retry_alone_is_notable(parts: Parts) -> None:
    notable = Notable()
    ended = Ended(parts, parts.cluster("users", *ADDRESSES))
    ended.attempt(1, Verdict.SUCCESS, status=429)
    notable.finished(ended.end(status=429, skipped=Skipped.BUDGET))
    assert kinds(notable) == ["retried"]


def test_each_kind_is_bounded_on_its_own_and_the_latest_come_first(parts: Parts) -> None:
    notable = Notable(kept=3)
    users = parts.cluster("users", *ADDRESSES)
    slow = Ended(parts, users)
    slow.attempt(1, Verdict.SUCCESS, status=200, seconds=1.5)
    notable.finished(slow.end())
    for _ in range(10):
        notable.finished(Ended(parts, users).end(status=503, failure=Failure.OVERLOADED))

    assert kinds(notable) == ["failed", "failed", "failed", "slow"]
    assert len(notable.latest(2)) == 2
