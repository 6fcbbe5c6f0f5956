"""Hedges: a second try beside a slow first one, of which the client gets the better answer."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.admission import Admission, AdmissionPolicy
from sidecar.policy.hedge import HedgePolicy, Hedging
from sidecar.policy.outlier import OutlierPolicy
from sidecar.policy.priority import SHEDDABLE
from tests.proxy.fakes import Upstream
from tests.proxy.world import World, message, policy

AFTER = 0.05


def world_of(endpoints: int = 3, *, share: float = 1.0, hedge: HedgePolicy | None = None, **more: Any) -> World:
    """A world whose route hedges after 50 ms."""
    world = World(endpoints, hedge=hedge or HedgePolicy(seconds=AFTER), **more)
    world.cluster.regulate(None, None, 1024, Hedging(share, world.clock.now))
    return world


def results(world: World) -> dict[str, int]:
    """What became of hedges, where there were any."""
    assert world.cluster.hedging is not None
    return {name: count for name, count in world.cluster.hedging.results.items() if count}


def hedged(world: World, method: str = "GET", **request: Any) -> tuple[Any, Upstream, Upstream]:
    """A request whose first try is slow: the client, and the two streams."""
    client = world.request(method, **request)
    world.after(AFTER)
    first, second = world.streams[-2:]
    return client, first, second


def test_the_second_is_quicker_and_the_first_is_cancelled() -> None:
    # Given a try that takes longer than 50 ms
    world = world_of()
    client = world.request()
    world.after(AFTER - 0.001)
    assert world.asked == ["e0"]

    # When that time is over, another endpoint is asked
    world.after(0.001)
    assert world.asked == ["e0", "e1"]
    assert world.last.sent(b"x-sidecar-attempt") == b"2"
    assert not client.ended

    # Then its answer is the client's, and the first one is cancelled at once
    world.last.answer(200, b"quick")
    assert (client.status, client.body, client.got(b"x-sidecar-attempts")) == (200, b"quick", b"2")
    assert world.streams[0].was_reset is Failure.CANCELLED
    assert world.verdicts(0) == [Verdict.IGNORED]
    assert world.verdicts(1) == [Verdict.SUCCESS]
    assert results(world) == {"won": 1}
    world.at_rest()


def test_the_first_is_quicker_after_all() -> None:
    world = world_of()
    client, first, second = hedged(world)
    first.answer(200, b"late")
    assert (client.status, client.body, client.got(b"x-sidecar-attempts")) == (200, b"late", b"2")
    assert second.was_reset is Failure.CANCELLED
    assert (world.verdicts(0), world.verdicts(1)) == ([Verdict.SUCCESS], [Verdict.IGNORED])
    assert results(world) == {"lost": 1}
    world.at_rest()


def test_an_answer_that_goes_on_is_relayed_from_the_one_that_began_it() -> None:
    world = world_of()
    client, first, second = hedged(world)
    second.head(200)
    assert first.was_reset is Failure.CANCELLED
    second.data(b"a")
    second.data(b"b", end=True)
    assert client.body == b"ab"
    world.at_rest()


def test_a_quick_answer_is_not_asked_for_twice() -> None:
    world = world_of()
    client = world.request()
    world.last.answer()
    world.after(1.0)
    assert (world.asked, client.got(b"x-sidecar-attempts")) == (["e0"], None)
    assert results(world) == {}
    world.at_rest()


@pytest.mark.parametrize("status", [404, 429, 501])
def test_an_answer_that_would_not_be_tried_again_wins(status: int) -> None:
    world = world_of()
    client, first, _ = hedged(world)
    first.answer(status)
    assert client.status == status
    assert results(world) == {"lost": 1}
    world.at_rest()


# ----------------------------------------------------- one fails: the other goes on


def test_a_first_that_fails_waits_for_the_second() -> None:
    world = world_of()
    client, first, second = hedged(world)
    first.fails(Failure.RESET)
    assert not client.ended
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.after(1.0)
    assert world.asked == ["e0", "e1"], "no third while the second is under way"
    second.answer(200, b"fine")
    assert (client.status, client.body) == (200, b"fine")
    assert results(world) == {"won": 1}
    assert world.cluster.retries == {}
    world.at_rest()


def test_a_second_that_fails_waits_for_the_first() -> None:
    world = world_of()
    client, first, second = hedged(world)
    second.answer(503, b"no")
    assert not client.ended
    assert world.verdicts(1) == [Verdict.FAILURE]
    first.answer(200, b"fine")
    assert (client.status, client.body, client.got(b"x-sidecar-attempts")) == (200, b"fine", b"2")
    assert results(world) == {"lost": 1}
    world.at_rest()


@pytest.mark.parametrize("failed", [0, 1])
def test_an_error_of_the_service_waits_for_the_other_though_nobody_would_retry_it(failed: int) -> None:
    # Given an endpoint that is broken, and quicker than one that is well
    world = world_of()
    client, *tries = hedged(world)

    tries[failed].answer(500, b"broken")

    assert not client.ended
    tries[1 - failed].answer(200, b"fine")
    assert (client.status, client.body) == (200, b"fine")
    world.at_rest()


def test_of_two_errors_the_client_gets_the_later_one() -> None:
    world = world_of()
    client, first, second = hedged(world)
    second.answer(500, b"one")
    first.answer(500, b"two")
    assert (client.status, client.body) == (500, b"two")
    assert results(world) == {"failed": 1}
    assert len(world.asked) == 2, "nobody asked for a retry of 500"
    world.at_rest()


def test_an_error_is_the_answer_when_the_other_has_none() -> None:
    world = world_of(retry=policy(attempts=2))
    client, first, second = hedged(world)
    second.answer(500, b"broken")
    first.fails(Failure.RESET)
    assert (client.status, client.body) == (500, b"broken")
    world.at_rest()


def test_both_fail_and_a_third_is_a_retry() -> None:
    world = world_of(endpoints=3)
    client, first, second = hedged(world)
    first.fails(Failure.RESET)
    second.answer(503, b"no")
    world.after(0.25)
    assert world.asked == ["e0", "e1", "e2"]
    assert world.last.sent(b"x-sidecar-attempt") == b"3"
    world.last.answer(200)
    assert (client.status, client.got(b"x-sidecar-attempts")) == (200, b"3")
    assert results(world) == {"failed": 1}
    assert world.cluster.retries == {"503": 1}
    world.at_rest()


def test_a_hedge_counts_as_a_try() -> None:
    world = world_of(retry=policy(attempts=2))
    client, first, second = hedged(world)
    first.answer(503, b"no")
    second.fails(Failure.RESET)
    # Then the tries are used up, and the client gets the last real answer
    assert (client.status, client.body) == (503, b"no")
    assert client.got(b"x-sidecar-attempts") == b"2"
    assert client.got(b"x-sidecar-retry-skipped") == b"attempts"
    world.after(1.0)
    assert len(world.streams) == 2
    world.at_rest()


def test_the_last_try_is_not_hedged() -> None:
    world = world_of(retry=policy(attempts=1))
    client = world.request()
    world.after(1.0)
    assert world.asked == ["e0"]
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_retry_may_be_hedged_too() -> None:
    world = world_of()
    client = world.request()
    world.last.fails(Failure.REFUSED)
    assert world.asked == ["e0", "e1"]
    world.after(AFTER)
    assert world.asked == ["e0", "e1", "e2"]
    world.last.answer()
    assert client.got(b"x-sidecar-attempts") == b"3"
    assert results(world) == {"won": 1}
    world.at_rest()


def test_hedges_are_not_paid_for_by_retries() -> None:
    world = world_of(budget=(0.0, 0.1))
    assert world.cluster.budget.remaining(world.clock.now) == 1.0
    _, first, _ = hedged(world)
    first.answer()
    assert world.cluster.budget.remaining(world.clock.now) == 1.0


# ------------------------------------------------------------- where none is made


def test_what_must_not_run_twice_is_not_asked_for_twice() -> None:
    world = world_of()
    client = world.request("POST", body=b"pay 5")
    world.after(1.0)
    assert world.asked == ["e0"]
    world.last.answer(201)
    assert (client.status, client.got(b"x-sidecar-attempts")) == (201, None)
    assert results(world) == {"not_idempotent": 1}
    world.at_rest()


@pytest.mark.parametrize(
    "request_",
    [{"headers": [(b"idempotency-key", b"7")]}, {"path": "/search"}],
)
def test_a_post_that_may_run_twice_is_hedged_with_its_body(request_: dict[str, Any]) -> None:
    world = world_of(retry=policy(idempotent=("POST /search",)))
    client, first, second = hedged(world, "POST", body=b"find it", **request_)
    assert (first.body, second.body) == (b"find it", b"find it")
    second.answer(200)
    assert client.status == 200
    world.at_rest()


def test_a_request_that_is_still_being_sent_is_not_hedged() -> None:
    world = world_of()
    client = world.request("PUT", body=b"some", end=False)
    world.after(AFTER)
    assert results(world) == {"incomplete": 1}
    client.sends(b"more", end=True)
    assert world.last.body == b"somemore"
    world.after(1.0)
    assert world.asked == ["e0"]
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_body_that_was_let_go_is_not_hedged() -> None:
    world = world_of(retry=policy(replay=4))
    client = world.request("PUT", body=b"longer than four")
    world.after(AFTER)
    assert results(world) == {"too_large": 1}
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_the_budget_bounds_them() -> None:
    # Given that each twentieth request may be hedged
    world = world_of(share=0.05)
    clients = [world.request() for _ in range(40)]
    world.after(AFTER)
    assert len(world.streams) == 42
    assert results(world) == {"budget": 38}
    for stream in world.streams[:40]:
        stream.answer()
    assert {client.status for client in clients} == {200}
    world.at_rest()


def test_without_another_endpoint_there_is_none() -> None:
    world = world_of(endpoints=1)
    world.request()
    world.after(AFTER)
    assert results(world) == {"no_endpoint": 1}
    world.last.answer()
    world.at_rest()


def test_a_hedge_is_nobodys_probe() -> None:
    # Given two more endpoints, whose breakers are open and half open
    world = world_of(endpoints=5)
    world.open_breaker(3)
    world.after(1.0)
    world.open_breaker(4)
    for index in (1, 2):
        world.cluster.drain(world.endpoints[index], 60.0)
    client = world.request()
    world.after(AFTER)
    assert world.asked == ["e0"]
    assert results(world) == {"no_endpoint": 1}
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_where_most_endpoints_are_out_there_is_none() -> None:
    world = world_of(endpoints=5)
    for index in (2, 3, 4):
        world.open_breaker(index)
    world.request()
    world.after(AFTER)
    assert results(world) == {"overloaded": 1}
    world.last.answer()
    world.at_rest()


def test_under_pressure_there_is_none() -> None:
    world = world_of()
    world.runtime.pressure = 1
    world.request()
    world.after(AFTER)
    assert results(world) == {"overloaded": 1}
    world.last.answer()
    world.at_rest()


def test_sheddable_requests_are_not_hedged() -> None:
    world = world_of(priority=SHEDDABLE)
    world.request()
    world.after(AFTER)
    assert results(world) == {"overloaded": 1}
    world.last.answer()
    world.at_rest()


def test_near_the_limit_there_is_none() -> None:
    world = world_of(limits={"requests": 10})
    world.cluster.requests.configure(10)
    clients = [world.request() for _ in range(9)]
    world.after(AFTER)
    assert results(world) == {"overloaded": 9}
    for stream in world.streams:
        stream.answer()
    assert {client.status for client in clients} == {200}
    world.at_rest()


def test_while_requests_are_rejected_there_is_none() -> None:
    world = world_of()
    admission = Admission(AdmissionPolicy(), world.rng)
    world.cluster.regulate(None, admission, 1024, world.cluster.hedging)
    world.request()
    for _ in range(20):
        admission.record(False, world.clock.now)
    world.after(AFTER)
    assert results(world) == {"overloaded": 1}
    world.last.answer()
    world.at_rest()


def test_in_a_panic_there_is_none() -> None:
    world = world_of(endpoints=4)
    world.cluster.eject_outliers(OutlierPolicy())
    for index in (0, 1, 2):
        world.cluster.set_health(world.endpoints[index], False)
    assert world.cluster.panic
    world.request()
    world.after(AFTER)
    assert results(world) == {"overloaded": 1}
    world.last.answer()


def test_an_upgrade_is_not_hedged() -> None:
    world = world_of()
    client = world.request(headers=[(b"upgrade", b"websocket")], upgrade=b"websocket")
    world.after(1.0)
    assert world.asked == ["e0"]
    client.leaves()
    assert results(world) == {}


# ------------------------------------------------------------------------ deadlines


def test_the_deadline_bounds_both() -> None:
    world = world_of(request_timeout=2.0)
    client, first, second = hedged(world)
    world.after(2.0)
    assert (client.status, client.got(b"x-sidecar-error")) == (504, b"timeout")
    assert (first.was_reset, second.was_reset) == (Failure.CANCELLED, Failure.CANCELLED)
    assert (world.verdicts(0), world.verdicts(1)) == ([Verdict.FAILURE], [Verdict.IGNORED])
    assert results(world) == {"failed": 1}
    world.at_rest()


def test_each_has_its_own_time_for_a_try() -> None:
    # Given 500 ms for a try, of which the first used 50 before the second began
    world = world_of(try_timeout=0.5, retry=policy(attempts=2))
    client, first, second = hedged(world)
    world.after(0.44)
    assert first.was_reset is None

    # Then the first is given up after its 500 ms, and the second after its own
    world.after(0.02)
    assert first.was_reset is Failure.CANCELLED
    assert second.was_reset is None
    assert world.verdicts(0) == [Verdict.FAILURE]
    assert not client.ended
    world.after(0.04)
    assert client.status == 504
    assert world.verdicts(1) == [Verdict.FAILURE]
    world.at_rest()


def test_a_time_for_a_try_that_is_shorter_comes_first() -> None:
    world = world_of(try_timeout=0.02)
    client = world.request()
    world.after(0.021)
    assert world.verdicts(0) == [Verdict.FAILURE]
    assert results(world) == {}
    while len(world.streams) < 2:
        world.after(0.005)
    assert world.cluster.retries == {"timeout": 1}, "a retry, not a hedge"
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_try_that_cannot_connect_is_hedged_as_well() -> None:
    # Given an endpoint whose dial takes long
    world = world_of(endpoints=2)
    world.connector.by_hand = True
    client = world.request("POST", headers=[(b"idempotency-key", b"1")], body=b"x")
    world.after(AFTER)
    assert [pool.endpoint.name for pool in world.connector.dials] == ["e0:80", "e1:80"]

    # When the first connection is there at last, it is sent as what it is
    world.connector.connects()
    assert world.streams[0].sent(b"x-sidecar-attempt") is None
    world.connector.connects()
    assert world.streams[1].sent(b"x-sidecar-attempt") == b"2"
    world.streams[1].answer()
    assert client.status == 200
    world.at_rest()


def test_a_connection_that_comes_too_late_is_anothers() -> None:
    world = world_of(endpoints=2)
    world.connector.by_hand = True
    client = world.request()
    world.after(AFTER)
    world.connector.dials.reverse()
    world.connector.connects()
    world.last.answer()
    assert (client.status, world.asked) == (200, ["e1"])
    assert world.verdicts(0) == [Verdict.IGNORED]
    world.connector.connects()
    world.at_rest()


def test_neither_connects_in_time() -> None:
    world = world_of(endpoints=2, connect_timeout=0.2, retry=policy(attempts=2))
    world.connector.by_hand = True
    client = world.request()
    world.after(0.21)
    assert world.verdicts(0) == [Verdict.FAILURE]
    assert not client.ended
    world.after(0.05)
    assert world.verdicts(1) == [Verdict.FAILURE]
    assert (client.status, client.got(b"x-sidecar-error")) == (502, b"connect_failed")
    while world.connector.dials:
        world.connector.fails()
    world.at_rest()


def test_a_second_that_cannot_be_sent_is_no_harm() -> None:
    world = world_of(endpoints=2)
    world.connector.dead.add("e1:80")
    client = world.request()
    world.after(AFTER)
    assert world.verdicts(1) == [Verdict.FAILURE]
    assert not client.ended
    world.streams[0].answer(200)
    assert (client.status, client.got(b"x-sidecar-attempts")) == (200, b"2")
    assert results(world) == {"lost": 1}
    world.at_rest()


def test_a_second_for_which_there_is_no_connection_is_no_harm() -> None:
    world = world_of(endpoints=2, limits={"connections": 1, "pending": 0, "requests": 10})
    world.cluster.pending.configure(1)
    client = world.request()
    world.request()  # waits, and takes the only place for that
    world.after(AFTER)
    world.streams[0].answer(200)
    assert client.status == 200
    world.streams[-1].answer(200)
    world.after(20.0)
    world.at_rest()


# ------------------------------------------------------------------------ the client


def test_the_client_leaves_and_both_are_cancelled() -> None:
    world = world_of()
    client, first, second = hedged(world)
    client.leaves()
    assert (first.was_reset, second.was_reset) == (Failure.CANCELLED, Failure.CANCELLED)
    assert (world.verdicts(0), world.verdicts(1)) == ([Verdict.IGNORED], [Verdict.IGNORED])
    assert results(world) == {"failed": 1}
    world.at_rest()


class AtTheEnd:
    """Records that look when an exchange is finished."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def finished(self, exchange: Any) -> None:
        self._look()


def test_the_process_ends_and_both_are_let_go() -> None:
    world = world_of()
    client, first, second = hedged(world)
    seen: list[int] = []
    world.runtime.records.append(AtTheEnd(lambda: seen.extend(each.in_flight for each in world.endpoints)))
    with world.turn_of():
        client.receiver.cut_off()
    assert seen == [0, 0, 0], "before the books of the request are closed"
    assert (client.status, client.got(b"x-sidecar-error")) == (503, b"draining")
    assert (first.was_reset, second.was_reset) == (Failure.CANCELLED, Failure.CANCELLED)
    world.at_rest()


def test_a_bug_ends_the_request_and_both_are_let_go() -> None:
    world = world_of()
    client, first, second = hedged(world)
    second.receiver.on_crash(RuntimeError("a bug"))
    assert client.status == 500
    assert first.was_reset is Failure.CANCELLED
    assert [str(crash) for crash in world.crashes] == ["a bug"]
    world.crashes.clear()
    world.at_rest()


def test_a_bug_in_the_race_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    client, first, second = hedged(world)
    monkeypatch.setattr("sidecar.proxy.race.wish", lambda *_: 1 / 0)
    second.answer(200)
    assert client.status == 500
    assert first.was_reset is Failure.CANCELLED
    monkeypatch.undo()
    world.crashes.clear()
    world.at_rest()


def test_a_bug_after_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    client, first, second = hedged(world)
    monkeypatch.setattr("sidecar.proxy.exchange.delay_before_retry", lambda *_: 1 / 0)
    second.head(404)
    assert client.status == 500
    assert (first.was_reset, second.was_reset) == (Failure.CANCELLED, Failure.CANCELLED)
    world.crashes.clear()
    world.at_rest()


def test_interim_answers_of_the_second_are_not_the_clients() -> None:
    world = world_of()
    client, first, second = hedged(world)
    second.informational(103)
    assert client.interim == []
    first.informational(103)
    assert client.interim == [103]

    # But when it is the only one left they are
    first.fails(Failure.RESET)
    second.informational(103)
    assert client.interim == [103, 103]
    second.answer()
    world.at_rest()


def test_much_of_an_answer_waits_for_its_verdict() -> None:
    # Given a hedged request whose second try is answered, head and body in one read
    world = world_of()
    client, _, second = hedged(world)
    second.answer(200, b"x" * 100_000)
    assert len(client.body) == 100_000
    world.at_rest()


# ------------------------------------------------------------------------------ gRPC


def test_a_listed_call_is_hedged() -> None:
    world = world_of(retry=policy(idempotent=("/pkg.*",)))
    client = world.call("/pkg.Users/Get", message(b"q"), timeout=b"1S")
    world.after(AFTER)
    first, second = world.streams
    assert second.sent(b"grpc-timeout") == b"950000u"
    second.answer_grpc(message(b"a"))
    assert (client.grpc_status, client.body) == (b"0", message(b"a"))
    assert first.was_reset is Failure.CANCELLED
    world.at_rest()


def test_an_unlisted_call_is_not() -> None:
    world = world_of()
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.after(AFTER)
    assert results(world) == {"not_idempotent": 1}
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


def test_unavailable_waits_for_the_other_and_another_error_does_not() -> None:
    world = world_of(retry=policy(idempotent=("/pkg.*",)))
    client = world.call("/pkg.Users/Get", message(b"q"))
    world.after(AFTER)
    first, second = world.streams
    first.answer_grpc(code=14)
    assert not client.ended
    assert world.verdicts(0) == [Verdict.SOFT_FAILURE]
    second.answer_grpc(code=5)
    assert client.grpc_status == b"5"
    world.at_rest()


def test_a_stream_is_not_hedged() -> None:
    world = world_of(retry=policy(idempotent=("/pkg.*",)))
    client = world.call("/pkg.Users/Watch", message(b"q"), end=False)
    world.after(AFTER)
    assert world.asked == ["e0"]
    client.leaves()
    assert results(world) == {}
    world.at_rest()


def test_a_call_that_becomes_a_stream_while_it_connects_has_no_longer_for_that() -> None:
    world = world_of(
        endpoints=1, retry=policy(attempts=2, idempotent=("/pkg.*",)), connect_timeout=0.2, try_timeout=0.3
    )
    world.connector.by_hand = True
    client = world.call("/pkg.Users/Watch", end=False)
    world.after(AFTER)
    assert results(world) == {"incomplete": 1}
    client.sends(message(b"one"))
    client.sends(message(b"two"))
    world.after(0.16)
    assert world.verdicts(0) == [Verdict.FAILURE]

    # And once it is sent it may take its time
    world.after(0.03)
    while world.connector.dials:
        world.connector.connects()
    world.after(5.0)
    assert not client.ended
    world.last.answer_grpc(message(b"a"))
    client.sends(b"", end=True)
    assert client.grpc_status == b"0"


def test_a_stream_of_answers_wins_by_its_head() -> None:
    world = world_of(retry=policy(idempotent=("/pkg.*",)))
    client = world.call("/pkg.Users/List", message(b"q"))
    world.after(AFTER)
    first, second = world.streams
    second.head(200, [(b"content-type", b"application/grpc")])
    assert first.was_reset is Failure.CANCELLED
    second.data(message(b"a"))
    second.trailers([(b"grpc-status", b"0")])
    assert client.grpc_status == b"0"
    world.at_rest()


# --------------------------------------------------------------------- by percentile


def answered(world: World, seconds: float, count: int) -> None:
    for _ in range(count):
        world.request()
        world.after(seconds)
        for stream in world.streams:
            if not stream.over:
                stream.answer()


def test_after_a_percentile_of_what_was_seen() -> None:
    # Given a hundred answers of 10 ms
    world = world_of(hedge=HedgePolicy(quantile=0.95))
    answered(world, 0.01, 99)
    client = world.request()
    world.after(0.01)
    assert len(world.streams) == 100
    world.after(0.09)
    assert len(world.streams) == 100, "too little is known yet"
    world.last.answer()

    # When one takes longer than nearly all of them
    client = world.request()
    world.after(0.012)
    assert len(world.streams) == 102
    world.last.answer()
    assert client.got(b"x-sidecar-attempts") == b"2"
    world.at_rest()


def test_what_was_outrun_still_counts_as_slow() -> None:
    # Given a cluster of which each tenth request is slow, and hedged
    world = world_of(hedge=HedgePolicy(quantile=0.95))
    for _ in range(60):
        answered(world, 0.01, 9)
        client = world.request()
        slow = world.last
        world.after(0.3)
        if not slow.over and world.last is not slow:
            world.last.answer()
        if not client.ended:
            slow.answer()
    # Then hedging has not made the percentile the quick ones' own
    assert world.cluster.hedging is not None
    delay = world.cluster.hedging.delay(HedgePolicy(quantile=0.95), world.clock.now)
    assert delay is not None
    assert delay > 0.1
    world.at_rest()


def test_when_everything_becomes_slow_no_more_than_the_budget_is_asked_twice() -> None:
    # Given a cluster that was quick
    world = world_of(share=0.05, hedge=HedgePolicy(quantile=0.95), limits={"requests": 10_000})
    world.cluster.regulate(None, None, 10_000, world.cluster.hedging)
    answered(world, 0.01, 400)
    before = len(world.streams)

    # When every request takes thirty times as long
    clients = []
    for _ in range(400):
        clients.append(world.request())
        world.after(0.01)
        for stream in world.streams[before:]:
            if not stream.over and stream.receiver.started <= world.clock.now - 0.3:
                stream.answer()
    world.after(0.3)
    for stream in world.streams[before:]:
        if not stream.over:
            stream.answer()

    # Then a twentieth of all of them was asked twice, and each has its answer
    assert {client.status for client in clients} == {200}
    assert len(world.streams) - before - 400 <= 0.05 * 800
    assert results(world)["budget"] > 0
    world.at_rest()


def test_the_balancer_hears_that_the_first_takes_longer_than_that() -> None:
    world = world_of()
    client, _, second = hedged(world)
    world.after(0.02)
    second.answer()
    assert client.status == 200
    assert world.balancer.observed == [("e0:80", pytest.approx(0.07)), ("e1:80", pytest.approx(0.02))]


def test_the_balancer_hears_of_no_latency_that_is_below_what_it_knows() -> None:
    world = world_of()
    world.endpoints[1].cost = 0.03
    client, first, _ = hedged(world)
    world.after(0.02)
    first.answer()
    assert client.status == 200
    assert world.balancer.observed == [("e0:80", pytest.approx(0.07))], "the hedge had less than 30 ms"


@pytest.mark.parametrize("winner", [0, 1])
def test_of_the_two_the_first_alone_says_how_long_answers_take(winner: int) -> None:
    world = world_of()
    client, *streams = hedged(world)
    world.after(0.01)
    streams[winner].answer()
    assert client.status == 200
    assert world.cluster.hedging is not None
    latencies = world.cluster.hedging.latencies
    for _ in range(99):
        latencies.add(0.001, world.clock.now)
    # Then it is the slowest of a hundred
    assert latencies.quantile(0.5, world.clock.now) == pytest.approx(0.001, rel=0.125)
    assert sum(latencies._counts) == 100
    assert latencies._work_out(100) == pytest.approx(0.06, rel=0.125)
