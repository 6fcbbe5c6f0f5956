"""Retries: what may be repeated, what must not be, and what the client is told."""

import pytest

from sidecar.model.outcome import Failure, Skipped, Verdict
from tests.proxy.world import World, message, policy

UNPROCESSED = [Failure.REFUSED, Failure.UNSENT]
PROCESSED = [Failure.RESET, Failure.PROTOCOL, Failure.STALE_REUSE]
IDEMPOTENT = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]


@pytest.mark.parametrize("failure", UNPROCESSED)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_what_was_provably_not_processed_is_repeated_whatever_the_method(failure: Failure, method: str) -> None:
    world = World()
    client = world.request(method, body=b"pay 5")
    world.last.fails(failure)
    assert world.asked == ["e0", "e1"]
    assert world.last.body == b"pay 5"
    world.last.answer(201)
    assert (client.status, client.got(b"x-sidecar-attempts")) == (201, b"2")
    world.at_rest()


@pytest.mark.parametrize("failure", UNPROCESSED)
def test_what_was_not_processed_says_nothing_of_its_endpoint(failure: Failure) -> None:
    world = World()
    world.request("POST")
    world.last.fails(failure)
    world.last.answer()
    assert world.verdicts(0) == [Verdict.IGNORED]


def test_a_dial_that_fails_is_repeated_elsewhere_at_once_and_blamed() -> None:
    world = World()
    world.connector.dead.add("e0:80")
    client = world.request("POST", body=b"x")
    assert world.asked == ["e1"]
    world.last.answer()
    assert client.status == 200
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


@pytest.mark.parametrize("failure", PROCESSED)
def test_what_may_have_run_is_not_repeated_for_a_post(failure: Failure) -> None:
    world = World()
    client = world.request("POST", body=b"pay 5")
    world.last.fails(failure)
    assert world.asked == ["e0"]
    assert client.status == 502
    assert client.got(b"x-sidecar-error") == b"reset"
    assert client.got(b"x-sidecar-retry-skipped") == b"not_idempotent"
    assert client.got(b"x-sidecar-attempts") is None
    assert world.cluster.retries_skipped == {"not_idempotent": 1}
    world.at_rest()


@pytest.mark.parametrize("failure", PROCESSED)
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_what_may_have_run_is_repeated_when_idempotent(failure: Failure, method: str) -> None:
    world = World()
    client = world.request(method)
    world.last.fails(failure)
    world.after(0.25)
    assert world.asked == ["e0", "e1"]
    world.last.answer()
    assert client.status == 200
    assert world.cluster.retries == {failure.reason: 1}
    world.at_rest()


def test_a_stale_connection_is_nobodys_fault() -> None:
    world = World()
    world.request()
    world.last.fails(Failure.STALE_REUSE)
    world.after(0.25)
    world.last.answer()
    assert world.verdicts(0) == [Verdict.IGNORED]
    assert world.verdicts(1) == [Verdict.SUCCESS]


def test_a_post_with_a_key_is_idempotent() -> None:
    world = World()
    client = world.request("POST", headers=[(b"idempotency-key", b"7")])
    world.last.fails(Failure.RESET)
    world.after(0.25)
    world.last.answer()
    assert client.status == 200


def test_a_listed_post_is_idempotent() -> None:
    world = World(retry=policy(idempotent=("POST /search*",)))
    client = world.request("POST", "/search/all?q=1")
    world.last.fails(Failure.RESET)
    world.after(0.25)
    world.last.answer()
    assert client.status == 200


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_bad_status_is_repeated_when_idempotent(status: int) -> None:
    world = World()
    client = world.request()
    world.last.answer(status, b"no")
    world.after(0.25)
    world.last.answer(200, b"yes")
    assert (client.status, client.body) == (200, b"yes")
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


@pytest.mark.parametrize("status", [400, 404, 429, 500, 501])
def test_other_statuses_pass(status: int) -> None:
    world = World()
    client = world.request()
    world.last.answer(status, b"as it is", [(b"x-own", b"1")])
    assert (client.status, client.body, client.got(b"x-own")) == (status, b"as it is", b"1")
    assert client.got(b"x-sidecar-retry-skipped") is None
    assert world.asked == ["e0"]


def test_a_post_gets_the_503_that_was_not_repeated() -> None:
    world = World()
    client = world.request("POST")
    world.last.answer(503, b"busy", [(b"x-own", b"1")])
    assert (client.status, client.body, client.got(b"x-own")) == (503, b"busy", b"1")
    assert client.got(b"x-sidecar-retry-skipped") == b"not_idempotent"
    assert client.got(b"x-sidecar-error") is None
    world.at_rest()


def test_the_endpoint_is_told_which_try_it_is_from_the_second_on() -> None:
    world = World()
    world.request()
    assert world.last.sent(b"x-sidecar-attempt") is None
    world.last.fails(Failure.REFUSED)
    assert world.last.sent(b"x-sidecar-attempt") == b"2"
    world.last.fails(Failure.REFUSED)
    world.after(0.25)
    assert world.last.sent(b"x-sidecar-attempt") == b"3"
    world.last.answer()
    world.at_rest()


def test_another_endpoint_is_tried_while_there_is_one() -> None:
    world = World(3, retry=policy(attempts=5))
    world.request()
    for _ in range(4):
        world.last.fails(Failure.RESET)
        world.after(0.25)
    assert sorted(world.asked[:3]) == ["e0", "e1", "e2"]
    assert len(world.asked) == 5
    world.last.answer()
    world.at_rest()


# ------------------------------------------------------------ the tries run out


def test_when_tries_run_out_the_last_real_answer_is_the_clients() -> None:
    world = World()
    client = world.request()
    for number in range(1, 4):
        world.last.answer(503, b"busy %d" % number, [(b"x-try", b"%d" % number)])
        world.after(0.25)
    assert len(world.streams) == 3
    assert (client.status, client.body, client.got(b"x-try")) == (503, b"busy 3", b"3")
    assert client.got(b"x-sidecar-attempts") == b"3"
    assert client.got(b"x-sidecar-retry-skipped") == b"attempts"
    assert client.got(b"x-sidecar-error") is None
    assert world.ended["failure"] is None
    world.at_rest()


def test_also_when_later_tries_had_no_answer() -> None:
    world = World()
    client = world.request()
    with world.turn_of():
        world.last.head(503, [(b"x-own", b"1")])
        world.streams[0].data(b"bu")
        world.streams[0].data(b"sy")
        world.streams[0].trailers([(b"x-sum", b"9")])
    world.after(0.25)
    world.last.fails(Failure.RESET)
    world.after(0.25)
    world.last.fails(Failure.RESET)
    assert (client.status, client.body, client.got(b"x-own")) == (503, b"busy", b"1")
    assert client.trailers == [(b"x-sum", b"9")]
    assert client.ended
    world.at_rest()


def test_also_when_the_kept_answer_has_not_ended_yet() -> None:
    world = World(retry=policy(attempts=2))
    client = world.request()
    first = world.last
    first.head(503)
    first.data(b"slow")
    world.after(0.25)
    world.last.fails(Failure.RESET)
    assert (client.status, client.body, client.ended) == (503, b"slow", False)
    first.data(b"ly", end=True)
    assert (client.body, client.ended) == (b"slowly", True)
    world.at_rest()


def test_a_kept_answer_that_broke_off_is_none() -> None:
    world = World(retry=policy(attempts=2))
    client = world.request()
    first = world.last
    first.head(503)
    world.after(0.25)
    first.fails(Failure.RESET)
    world.last.fails(Failure.RESET)
    assert (client.status, client.got(b"x-sidecar-error")) == (502, b"reset")
    world.at_rest()


def test_a_kept_answer_is_dropped_for_a_better_one() -> None:
    world = World()
    client = world.request()
    first = world.last
    first.head(503)
    first.data(b"x" * 70_000)
    assert first.paused, "what is kept is bounded"
    world.after(0.25)
    world.last.answer(200, b"fine")
    assert (client.status, client.body) == (200, b"fine")
    assert first.was_reset is Failure.CANCELLED
    world.at_rest()


def test_a_long_kept_answer_flows_on_once_it_is_the_clients() -> None:
    world = World(retry=policy(attempts=2))
    client = world.request()
    first = world.last
    first.head(503)
    first.data(b"x" * 70_000)
    world.after(0.25)
    world.last.fails(Failure.RESET)
    assert not first.paused
    first.data(b"y", end=True)
    assert len(client.body) == 70_001
    world.at_rest()


def test_failures_alone_end_in_a_reply_that_names_the_last_one() -> None:
    world = World()
    client = world.request()
    for _ in range(3):
        world.last.fails(Failure.RESET)
        world.after(0.25)
    assert client.status == 502
    assert client.got(b"x-sidecar-error") == b"reset"
    assert client.got(b"x-sidecar-attempts") == b"3"
    assert client.got(b"x-sidecar-retry-skipped") == b"attempts"
    assert b'"cluster": "users"' in client.body
    assert world.cluster.local_replies == {"reset": 1}
    world.at_rest()


def test_nobody_left_to_try_does_not_hide_what_the_try_came_to() -> None:
    """`breaker_open` would say that nothing ran, which is not true."""
    world = World(1, breaker={"consecutive": 1})
    client = world.request()
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert (client.status, client.got(b"x-sidecar-error")) == (502, b"reset")
    assert client.got(b"x-sidecar-retry-skipped") == b"no_endpoint"
    assert world.cluster.retries_skipped == {"no_endpoint": 1}
    world.at_rest()


def test_attempts_1_wants_no_retry() -> None:
    world = World(retry=policy(attempts=1))
    client = world.request()
    world.last.fails(Failure.REFUSED)
    assert client.status == 502
    assert client.got(b"x-sidecar-retry-skipped") is None
    assert world.cluster.retries_skipped == {}
    world.at_rest()


# ------------------------------------------------------------------ budget, pauses


def test_the_budget_bounds_retries() -> None:
    world = World(budget=(0.0, 0.1))  # one retry in 10 s
    one = world.request()
    world.last.fails(Failure.REFUSED)
    world.last.answer()
    two = world.request()
    world.last.fails(Failure.REFUSED)
    assert (one.status, two.status) == (200, 502)
    assert two.got(b"x-sidecar-retry-skipped") == b"budget"
    assert world.ended["skipped"] is Skipped.BUDGET
    world.at_rest()


def test_requests_pay_into_the_budget() -> None:
    world = World(budget=(0.2, 0.0))
    for _ in range(5):
        world.request()
        world.last.answer()
    world.request()
    world.last.fails(Failure.REFUSED)
    world.last.answer()
    assert world.ended["attempts"] == 2
    world.at_rest()


def test_retry_after_is_honoured_within_the_deadline() -> None:
    world = World(request_timeout=15.0)
    client = world.request()
    world.last.answer(503, headers=[(b"retry-after", b"3")])
    world.after(2.9)
    assert len(world.streams) == 1
    world.after(0.2)
    assert len(world.streams) == 2
    world.last.answer()
    assert client.status == 200
    world.at_rest()


@pytest.mark.parametrize(
    ("fields", "clock"),
    [
        ([(b"retry-after", b"Sun, 06 Nov 1994 08:49:40 GMT")], 784111777.0),
        (
            [(b"retry-after", b"Sun, 06 Nov 1994 08:49:40 GMT"), (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")],
            1.0,
        ),
    ],
)
def test_a_date_is_waited_for_by_the_servers_clock_or_else_by_ours(
    fields: list[tuple[bytes, bytes]], clock: float
) -> None:
    world = World(request_timeout=15.0)
    world.runtime.wall = lambda: clock
    client = world.request()
    world.last.answer(503, headers=fields)
    world.after(2.9)
    assert len(world.streams) == 1
    world.after(0.2)
    assert len(world.streams) == 2
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_date_that_is_over_does_not_forbid_the_retry() -> None:
    world = World(request_timeout=15.0)
    client = world.request()
    world.last.answer(503, headers=[(b"retry-after", b"Sun, 06 Nov 1994 08:49:37 GMT")])
    world.after(1.0)
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_retry_after_the_deadline_is_no_retry() -> None:
    world = World(request_timeout=2.0)
    client = world.request()
    world.last.answer(503, b"later", headers=[(b"retry-after", b"3")])
    assert (client.status, client.body) == (503, b"later")
    assert client.got(b"x-sidecar-retry-skipped") == b"deadline"
    world.at_rest()


@pytest.mark.parametrize("value", [b"864000", b"9" * 40, b"Fri, 31 Dec 9999 23:59:59 GMT"])
def test_without_a_deadline_a_server_cannot_hold_a_request_for_days(value: bytes) -> None:
    world = World(request_timeout=0.0)
    client = world.request()
    world.last.answer(503, headers=[(b"retry-after", value)])
    assert client.status == 503
    assert client.got(b"x-sidecar-retry-skipped") == b"deadline"
    world.at_rest()


# --------------------------------------------------------------------------- gRPC


def test_a_trailers_only_error_of_a_listed_method_is_retried() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(code=14)
    world.after(0.25)
    assert world.last.body == message(b"q")
    world.last.answer_grpc(message(b"a"))
    assert (client.body, client.grpc_status) == (message(b"a"), b"0")
    assert world.cluster.retries == {"unavailable": 1}
    world.at_rest()


def test_an_error_in_trailers_without_a_message_is_retried() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    with world.turn_of():
        world.last.head(200, [(b"content-type", b"application/grpc")])
        world.streams[0].trailers([(b"grpc-status", b"14")])
    world.after(0.25)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


def test_an_error_after_messages_is_not_retried() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(message(b"half"), code=14)
    assert (client.body, client.grpc_status) == (message(b"half"), b"14")
    assert world.asked == ["e0"]
    assert world.verdicts(0) == [Verdict.SOFT_FAILURE]
    world.at_rest()


def test_an_applications_own_unavailable_passes_as_it_is() -> None:
    world = World()
    client = world.call("/pkg.Users/Pay", message(b"q"))
    own = [(b"grpc-message", b"no%20stock"), (b"grpc-status-details-bin", b"CA4"), (b"x-own-bin", b"AQI")]
    world.last.answer_grpc(code=14, extra=own)
    assert client.answer is not None
    assert client.answer.headers == [(b"content-type", b"application/grpc"), (b"grpc-status", b"14"), *own]
    assert world.cluster.retries_skipped == {"not_idempotent": 1}
    assert world.asked == ["e0"]
    world.at_rest()


def test_an_unlisted_grpc_method_runs_once() -> None:
    world = World()
    client = world.call("/pkg.Users/Pay", message(b"q"))
    world.last.fails(Failure.RESET)
    assert client.grpc_status == b"14"
    assert client.got(b"x-sidecar-error") == b"reset"
    assert world.asked == ["e0"]
    world.at_rest()


def test_a_refused_stream_of_an_unlisted_method_is_repeated() -> None:
    world = World()
    client = world.call("/pkg.Users/Pay", message(b"q"))
    world.last.fails(Failure.REFUSED)
    assert world.last.body == message(b"q")
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    assert client.got(b"x-sidecar-attempts") == b"2"
    world.at_rest()


def test_a_code_that_is_not_listed_is_final() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(code=13)
    assert client.grpc_status == b"13"
    assert client.got(b"x-sidecar-retry-skipped") is None
    world.at_rest()


def test_pushback_says_when() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(code=14, extra=[(b"grpc-retry-pushback-ms", b"900")])
    world.after(0.89)
    assert len(world.streams) == 1
    world.after(0.02)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


@pytest.mark.parametrize("value", [b"-1", b"soon"])
def test_pushback_may_say_no(value: bytes) -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.answer_grpc(code=14, extra=[(b"grpc-retry-pushback-ms", value)])
    assert client.grpc_status == b"14"
    assert client.got(b"x-sidecar-retry-skipped") == b"pushback"
    assert world.cluster.retries_skipped == {"pushback": 1}
    world.at_rest()


def test_after_a_second_message_nothing_is_repeated() -> None:
    world = World(retry=policy(idempotent=("/pkg.Chat/Talk",)))
    client = world.call("/pkg.Chat/Talk", message(b"one"), end=False)
    client.sends(message(b"two"))
    world.last.fails(Failure.RESET)
    assert client.grpc_status == b"14"
    assert client.got(b"x-sidecar-retry-skipped") == b"committed"
    world.at_rest()


def test_a_stream_with_one_message_may_be_repeated() -> None:
    world = World(retry=policy(idempotent=("/pkg.Chat/Talk",)))
    client = world.call("/pkg.Chat/Talk", message(b"one"), end=False)
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert world.last.body == message(b"one")
    client.sends(message(b"two"), end=True)
    assert world.last.body == message(b"one") + message(b"two")
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


# ---------------------------------------------------------------- never afterwards


def test_nothing_is_repeated_once_the_client_has_the_head() -> None:
    world = World()
    client = world.request()
    world.last.head(200)
    world.last.data(b"half")
    world.last.fails(Failure.RESET)
    assert (client.status, client.body) == (200, b"half")
    assert client.was_reset is Failure.RESET
    assert world.asked == ["e0"]
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


def test_a_grpc_answer_that_breaks_off_ends_with_a_status() -> None:
    world = World(retry=policy(idempotent=("/pkg.Users/Get",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.last.head(200, [(b"content-type", b"application/grpc")])
    world.last.data(message(b"half"))
    world.last.fails(Failure.RESET)
    assert client.grpc_status == b"14"
    assert client.trailers is not None
    assert (b"x-sidecar-error", b"reset") in client.trailers
    assert world.ended["code"] == 14
    world.at_rest()
