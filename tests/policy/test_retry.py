"""The rule: what may have run is repeated only when that is harmless."""

from typing import Any

import pytest

from sidecar.model.outcome import Failure, Skipped
from sidecar.policy.retry import RetryPolicy, Try, forbids

FINE: dict[str, Any] = {
    "number": 1,
    "processed": True,
    "idempotent": True,
    "replayable": True,
    "committed": False,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"idempotent": False}, Skipped.NOT_IDEMPOTENT),
        ({"idempotent": False, "processed": False}, None),
        ({"replayable": False}, Skipped.TOO_LARGE),
        ({"replayable": False, "processed": False}, Skipped.TOO_LARGE),
        ({"number": 2}, None),
        ({"number": 3}, Skipped.ATTEMPTS),
        ({"number": 3, "processed": False}, Skipped.ATTEMPTS),
        ({"committed": True}, Skipped.COMMITTED),
        ({"committed": True, "processed": False}, None),
        ({"committed": True, "replayable": False, "processed": False}, Skipped.TOO_LARGE),
        ({"idempotent": False, "replayable": False, "number": 3}, Skipped.NOT_IDEMPOTENT),
    ],
)
def test_forbids(changes: dict[str, Any], expected: Skipped | None) -> None:
    assert forbids(RetryPolicy(attempts=3), Try(**{**FINE, **changes})) is expected


def test_what_the_words_mean() -> None:
    unsent = RetryPolicy.failures_of(["unsent"])
    assert all(not failure.processed for failure in unsent)
    assert unsent == {Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT, Failure.UNSENT, Failure.REFUSED}
    assert RetryPolicy.failures_of(["reset"]) == {Failure.RESET, Failure.PROTOCOL, Failure.STALE_REUSE}
    assert RetryPolicy.failures_of(["timeout", 502]) == {Failure.TIMEOUT}
    assert RetryPolicy.failures_of([503]) == frozenset()


def test_every_failure_of_an_endpoint_has_a_word_and_none_of_ours_has() -> None:
    repeated = RetryPolicy.failures_of(["unsent", "reset", "timeout"])
    ours = {
        Failure.IDLE_TIMEOUT,
        Failure.NO_ROUTE,
        Failure.NO_ENDPOINT,
        Failure.BREAKER_OPEN,
        Failure.OVERLOADED,
        Failure.CONCURRENCY,
        Failure.ADAPTIVE,
        Failure.ADMISSION,
        Failure.PRESSURE,
        Failure.RATE_LIMITED,
        Failure.BAD_REQUEST,
        Failure.HEADERS_TOO_LARGE,
        Failure.TARGET_TOO_LONG,
        Failure.BODY_TOO_LARGE,
        Failure.FORBIDDEN,
        Failure.DRAINING,
        Failure.INTERNAL,
        Failure.CANCELLED,
        Failure.KEPT_OUT,
        Failure.CUT_OFF,
        Failure.SLOW_REQUEST,
    }
    assert repeated | ours == set(Failure)
    assert not repeated & ours
