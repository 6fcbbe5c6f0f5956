"""Failures: what each one says of how far the request got, and of its endpoint."""

from sidecar.model.outcome import Failure


def test_two_failures_may_share_a_reason_and_stay_two() -> None:
    assert len({Failure.HEADERS_TOO_LARGE, Failure.BODY_TOO_LARGE}) == 2
    assert Failure.HEADERS_TOO_LARGE.reason == Failure.BODY_TOO_LARGE.reason == "too_large"


def test_what_provably_did_not_run() -> None:
    sent = {failure for failure in Failure if failure.processed}
    assert sent == {
        Failure.STALE_REUSE,
        Failure.RESET,
        Failure.PROTOCOL,
        Failure.TIMEOUT,
        Failure.IDLE_TIMEOUT,
        Failure.SLOW_REQUEST,
        Failure.CUT_OFF,
        Failure.INTERNAL,
        Failure.CANCELLED,
    }


def test_who_is_to_blame() -> None:
    blamed = {failure for failure in Failure if failure.blames_endpoint}
    assert blamed == {
        Failure.CONNECT_FAILED,
        Failure.CONNECT_TIMEOUT,
        Failure.RESET,
        Failure.PROTOCOL,
        Failure.TIMEOUT,
    }
