"""The other ends of a path: a client that leaves at any moment, and a bug of ours."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.model.outcome import Failure, Verdict
from tests.proxy.fakes import Client
from tests.proxy.world import World, message


def in_the_queue(world: World) -> Client:
    world.connector.by_hand = True
    return world.request()


def before_the_head(world: World) -> Client:
    return world.request()


def in_the_pause(world: World) -> Client:
    client = world.request()
    world.last.answer(503, headers=[(b"retry-after", b"2")])
    return client


def in_the_pause_with_an_unfinished_answer(world: World) -> Client:
    client = world.request()
    world.last.head(503, [(b"retry-after", b"2")])
    world.last.data(b"bu")
    return client


def in_the_second_try(world: World) -> Client:
    client = world.request()
    world.last.head(503)
    world.after(0.25)
    return client


def in_the_relay(world: World) -> Client:
    client = world.request()
    world.last.head(200)
    world.last.data(b"x")
    return client


def in_the_upload(world: World) -> Client:
    return world.request("POST", body=b"x", end=False)


MOMENTS = [
    in_the_queue,
    before_the_head,
    in_the_pause,
    in_the_pause_with_an_unfinished_answer,
    in_the_second_try,
    in_the_relay,
    in_the_upload,
]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure.SLOW_REQUEST, 408, 4),
        (Failure.BAD_REQUEST, 400, 3),
        (Failure.CANCELLED, 499, 1),
        (Failure.PROTOCOL, 499, 1),
    ],
)
def test_why_a_client_was_given_up_is_noted(failure: Failure, status: int, code: int) -> None:
    world = World()
    client = in_the_upload(world)
    with world.turn_of():
        client.receiver.on_reset(failure)
    assert world.ended["failure"] is (Failure.CANCELLED if failure is Failure.PROTOCOL else failure)
    assert (world.ended["status"], world.ended["code"]) == (status, code)
    world.at_rest()


def test_a_client_that_does_not_read_the_answer_was_slow() -> None:
    world = World()
    client = in_the_relay(world)
    with world.turn_of():
        client.receiver.on_reset(Failure.SLOW_REQUEST)
    assert (world.ended["failure"], world.ended["status"]) == (Failure.SLOW_REQUEST, 499)
    world.at_rest()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_that_leaves_leaves_nothing_behind(moment: Callable[[World], Client]) -> None:
    world = World()
    client = moment(world)
    client.leaves()
    while world.connector.dials:
        world.connector.connects()
    world.at_rest()
    assert world.ended["failure"] is Failure.CANCELLED
    assert world.ended["status"] == 499
    assert len(world.finished_exchanges) == 1
    assert all(stream.receiver is None or stream.over for stream in world.streams)
    # and it is neither success nor failure of whom it left
    told = [verdict for index in range(2) for verdict in world.verdicts(index)]
    if moment not in (in_the_pause, in_the_pause_with_an_unfinished_answer, in_the_second_try):
        assert told == [Verdict.IGNORED]


def test_a_dial_goes_on_for_whoever_comes_next() -> None:
    world = World(1)
    world.connector.by_hand = True
    world.request().leaves()
    client = world.request()
    assert len(world.connector.dials) == 1
    world.connector.connects()
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_cancelled_grpc_call_is_counted_as_cancelled() -> None:
    world = World()
    world.call("/pkg.S/Get", message(b"q")).leaves()
    assert world.target.codes == {("grpc", 1): 1}
    world.at_rest()


@pytest.mark.parametrize("kind", [b"application/grpc", b"text/html"])
def test_a_grpc_call_without_a_status_is_counted_as_its_client_sees_it(kind: bytes) -> None:
    """UNKNOWN: also where a page came that is no gRPC, as from a wrong port."""
    world = World()
    client = world.request("POST", "/pkg.S/M", headers=[(b"content-type", b"application/grpc")], protocol="http2")
    world.last.head(200, [(b"content-type", kind)])
    world.last.data(b"<html>", end=True)
    assert client.body == b"<html>"
    assert (world.ended["status"], world.ended["code"]) == (200, 2)


def test_each_request_is_counted_once_by_what_the_client_got() -> None:
    world = World()
    world.request()
    world.last.fails(Failure.REFUSED)
    world.last.answer(201)
    world.call("/pkg.S/Get", message(b"q"))
    world.last.answer_grpc(message(b"half"), code=5)
    world.request(protocol="http2").leaves()
    assert world.target.codes == {("http1", 201): 1, ("grpc", 5): 1, ("http2", 499): 1}
    assert world.cluster.durations.count == 3
    assert sum(world.endpoints[0].verdicts) + sum(world.endpoints[1].verdicts) == 4
    world.at_rest()


# ------------------------------------------------------------------------- crashes


def boom(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("a bug")


def crashed(world: World) -> None:
    """One crash was told, and nothing else is wrong."""
    assert [type(error) for error in world.crashes] == [ZeroDivisionError]
    world.crashes.clear()
    world.at_rest()


def test_a_bug_before_the_answer_is_a_500_and_the_next_request_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    with monkeypatch.context() as patch:
        patch.setattr(world.balancer, "pick", boom)
        client = world.request()
    assert (client.status, client.got(b"x-sidecar-error")) == (500, b"internal")
    crashed(world)
    fine = world.request()
    world.last.answer()
    assert fine.status == 200
    world.at_rest()


def test_a_bug_while_dialling_leaves_no_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1)
    with monkeypatch.context() as patch:
        patch.setattr(world.connector, "dial", boom)
        client = world.call("/pkg.S/Get", message(b"q"))
    assert client.grpc_status == b"13"
    pool = world.endpoints[0].pools["http2"]
    assert not pool.waiters
    assert world.cluster.pending.in_use == 0


def test_a_bug_with_a_kept_answer_lets_it_go(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    client = world.request()
    world.last.head(503)
    with monkeypatch.context() as patch:
        patch.setattr(world.balancer, "pick", boom)
        world.after(0.25)
    assert client.status == 500
    assert world.last.was_reset is Failure.CANCELLED
    crashed(world)


def test_a_bug_after_the_head_breaks_the_answer_off(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    client = world.request()
    world.last.head(200)
    with monkeypatch.context() as patch:
        patch.setattr(world.balancer, "observe", boom)
        world.last.data(b"x")
        world.last.fails(Failure.RESET)
    assert client.was_reset is Failure.INTERNAL
    crashed(world)


def test_a_bug_of_a_record_does_not_take_a_request_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world, "finished", boom)
    client = world.request()
    world.last.answer()
    assert client.status == 200
    crashed(world)
