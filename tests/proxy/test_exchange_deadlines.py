"""Deadlines: what bounds what, and what the endpoint is told of it."""

from typing import Any

import pytest

from sidecar.codec import grpc
from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.idempotency import MethodSet
from tests.proxy.fakes import Upstream
from tests.proxy.world import World, message, policy

GRPC = [(b"content-type", b"application/grpc")]
LISTED = policy(idempotent=("/pkg.*",))


def told(stream: Upstream) -> float | None:
    """The grpc-timeout that a try was sent with, in seconds."""
    value = stream.sent(b"grpc-timeout")
    return None if value is None else grpc.parse_timeout(value)


# --------------------------------------------------------------------------- HTTP


def test_no_head_in_time_is_504() -> None:
    world = World(request_timeout=2.0)
    client = world.request("POST")
    world.after(1.99)
    assert not client.ended
    world.after(0.02)
    assert (client.status, client.got(b"x-sidecar-error")) == (504, b"timeout")
    assert world.last.was_reset is Failure.CANCELLED
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


@pytest.mark.parametrize("tries", [{"request_timeout": 2.0}, {"request_timeout": 20.0, "try_timeout": 2.0}])
def test_a_request_that_its_client_does_not_finish_in_time_is_408_and_no_fault_of_the_endpoint(
    tries: dict[str, Any],
) -> None:
    world = World(**tries)
    client = world.request("PUT", body=b"some", end=False)
    world.after(2.01)
    assert (client.status, client.got(b"x-sidecar-error")) == (408, b"too_slow")
    assert world.verdicts(0) == [Verdict.IGNORED]
    assert world.runtime.slow_clients == {"header": 0, "body": 1, "write": 0}
    assert len(world.streams) == 1, "it is not tried again"
    world.at_rest()


def test_a_body_that_the_endpoint_does_not_take_is_the_endpoints_fault() -> None:
    world = World(request_timeout=2.0)
    client = world.request("PUT", body=b"some", end=False)
    world.last.takes_more = False
    client.sends(b"more")
    world.after(2.01)
    assert client.status == 504
    assert world.verdicts(0) == [Verdict.FAILURE]


def test_a_100_that_never_comes_is_the_endpoints_fault() -> None:
    world = World(request_timeout=2.0)
    client = world.request("PUT", headers=[(b"expect", b"100-continue")], end=False)
    world.after(2.01)
    assert client.status == 504
    assert world.verdicts(0) == [Verdict.FAILURE]


def test_a_body_may_take_longer_than_the_deadline() -> None:
    world = World(request_timeout=2.0, idle_timeout=5.0)
    client = world.request()
    world.last.head(200)
    for _ in range(5):
        world.after(1.5)
        world.last.data(b"x")
    world.last.data(b"", end=True)
    assert client.body == b"xxxxx"
    world.at_rest()


@pytest.mark.parametrize("idle", [0.5, 5.0])
def test_a_body_that_stands_still_is_cut_off(idle: float) -> None:
    world = World(request_timeout=2.0, idle_timeout=idle)
    client = world.request()
    world.after(0.1)
    world.last.head(200)
    world.after(idle - 0.01)
    assert client.was_reset is None
    world.after(0.02)
    assert client.was_reset is Failure.IDLE_TIMEOUT
    assert world.verdicts(0) == [Verdict.IGNORED]
    world.at_rest()


LENGTH = [(b"content-length", b"1000000")]


def trickle(world: World, seconds: int, size: int = 1) -> None:
    """So many bytes each second."""
    for _ in range(seconds):
        world.after(1.0)
        if world.last.was_reset is None:
            world.last.data(bytes(size))


def test_an_answer_of_known_length_comes_at_least_so_fast() -> None:
    world = World(request_timeout=2.0, idle_timeout=10.0, min_rate=100)
    client = world.request()
    attempt: Any = world.last.receiver
    world.last.head(200, LENGTH)
    trickle(world, 11, 99)
    assert client.was_reset is None, "it is compared over a whole idle timeout"
    trickle(world, 20, 99)
    assert client.was_reset is Failure.IDLE_TIMEOUT
    assert world.verdicts(0) == [Verdict.IGNORED]
    assert attempt.why == "its answer came slower than timeouts.min_rate"
    world.at_rest()


@pytest.mark.parametrize(
    ("fields", "size", "rate"),
    [
        (LENGTH, 100, 100),
        (LENGTH, 1, 0),
        ([], 1, 100),  # who knows whether it is a stream
        ([(b"content-type", b"text/event-stream")], 1, 100),
    ],
)
def test_what_comes_as_fast_as_it_has_to_goes_on(fields: Any, size: int, rate: int) -> None:
    world = World(request_timeout=2.0, idle_timeout=10.0, min_rate=rate)
    client = world.request()
    world.last.head(200, fields)
    trickle(world, 100, size)
    world.last.data(b"", end=True)
    assert client.was_reset is None
    assert len(client.body) == 100 * size
    world.at_rest()


def test_an_answer_that_comes_as_its_request_does_is_not_slow() -> None:
    world = World(request_timeout=2.0, idle_timeout=10.0, min_rate=100)
    client = world.request("PUT", body=b"x", end=False)
    world.last.head(200, LENGTH)
    trickle(world, 50)
    assert client.was_reset is None
    client.sends(b"", end=True)
    trickle(world, 30)
    assert client.was_reset is Failure.IDLE_TIMEOUT
    world.at_rest()


@pytest.mark.parametrize("written_later", [False, True])
def test_an_answer_that_its_client_takes_slowly_is_not_slow(written_later: bool) -> None:
    world = World(request_timeout=2.0, idle_timeout=10.0, min_rate=100)
    client = world.request()
    world.last.head(200, LENGTH)
    for _ in range(20):
        client.takes_more = written_later
        world.last.data(b"x")
        if written_later:
            assert client.receiver is not None
            client.receiver.on_full()
        world.after(5.0)
        client.takes()
    assert client.was_reset is None
    # When the client takes everything, it is
    trickle(world, 40)
    assert client.was_reset is Failure.IDLE_TIMEOUT
    world.at_rest()


def test_without_an_idle_timeout_a_body_may_stand_still() -> None:
    world = World(request_timeout=2.0, idle_timeout=0.0)
    client = world.request()
    world.last.head(200)
    world.after(3600)
    world.last.data(b"x", end=True)
    assert client.body == b"x"
    world.at_rest()


def test_a_client_that_reads_slowly_is_not_idle() -> None:
    world = World(request_timeout=2.0, idle_timeout=3.0)
    client = world.request()
    world.last.head(200)
    client.takes_more = False
    world.last.data(b"x")
    for _ in range(4):
        world.after(2.0)
        client.takes()
    world.last.data(b"y", end=True)
    assert client.body == b"xy"
    world.at_rest()


def test_zero_is_no_deadline() -> None:
    world = World(request_timeout=0.0)
    client = world.request()
    world.after(3600)
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_the_deadline_bounds_all_tries_together() -> None:
    world = World(4, request_timeout=2.0, try_timeout=0.9, retry=policy(attempts=10))
    client = world.request()
    world.after(2.01)
    assert (client.status, client.got(b"x-sidecar-error")) == (504, b"timeout")
    assert world.ended["attempts"] in (2, 3)
    world.at_rest()


def test_a_try_that_takes_too_long_is_repeated_elsewhere() -> None:
    world = World(try_timeout=0.5)
    client = world.request()
    world.after(0.51)
    assert world.streams[0].was_reset is Failure.CANCELLED
    world.after(0.25)
    world.last.answer()
    assert (client.status, world.asked) == (200, ["e0", "e1"])
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


def test_a_post_that_takes_too_long_is_not() -> None:
    world = World(try_timeout=0.5)
    client = world.request("POST")
    world.after(0.51)
    assert (client.status, client.got(b"x-sidecar-retry-skipped")) == (504, b"not_idempotent")
    world.at_rest()


def test_the_try_timeout_bounds_the_head_not_the_body() -> None:
    world = World(try_timeout=0.5)
    client = world.request()
    world.last.head(200)
    world.after(2.0)
    world.last.data(b"x", end=True)
    assert client.body == b"x"
    world.at_rest()


# --------------------------------------------------------------------------- gRPC


def test_a_unary_call_gets_the_default() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"))
    assert told(world.last) is None
    world.after(2.01)
    assert client.grpc_status == b"4"
    assert client.got(b"x-sidecar-error") == b"timeout"
    world.at_rest()


def test_a_unary_calls_answer_is_bounded_to_its_end() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"))
    with world.turn_of():
        world.last.head(200, GRPC)
        world.streams[0].data(message(b"part")[:7])
    world.after(2.01)
    assert client.grpc_status == b"4"
    assert client.trailers is not None
    assert world.verdicts(0) == [Verdict.FAILURE]
    world.at_rest()


def test_the_clients_deadline_ends_it_and_shrinks_with_each_try() -> None:
    world = World(3, request_timeout=15.0, retry=LISTED)
    client = world.call("/pkg.S/Get", message(b"q"), timeout=b"500m")
    assert told(world.last) == 0.5
    world.after(0.2)
    world.last.fails(Failure.RESET)
    world.after(0.1)
    second = told(world.last)
    assert second is not None
    assert 0.2 <= second <= 0.3
    world.after(0.05)
    world.last.fails(Failure.REFUSED)
    third = told(world.last)
    assert third is not None
    assert third < second
    world.after(0.5)
    assert client.grpc_status == b"4"
    world.at_rest()


def test_time_spent_on_a_dial_is_gone() -> None:
    world = World(1, request_timeout=15.0)
    world.connector.by_hand = True
    world.call("/pkg.S/Get", message(b"q"), timeout=b"1S")
    world.after(0.4)
    world.connector.connects()
    left = told(world.last)
    assert left is not None
    assert 0.59 < left <= 0.6
    world.last.answer_grpc(message(b"a"))
    world.at_rest()


def test_the_default_bounds_a_unary_call_with_a_longer_deadline() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"), timeout=b"1H")
    assert told(world.last) == 3600.0, "what the server is told must not end a stream"
    world.after(2.01)
    assert client.grpc_status == b"4"
    world.at_rest()


def test_a_deadline_of_zero_is_over() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"), timeout=b"0S")
    world.after(0.01)
    assert client.grpc_status == b"4"
    world.at_rest()


def test_a_malformed_deadline_is_none() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"), timeout=b"soon")
    world.after(1.9)
    assert client.grpc_status is None
    world.after(0.2)
    assert client.grpc_status == b"4"
    world.at_rest()


def test_zero_is_no_deadline_for_calls_either() -> None:
    world = World(request_timeout=0.0)
    client = world.call("/pkg.S/Get", message(b"q"))
    world.after(3600)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


# ------------------------------------------------------------------------ streams


def test_no_half_close_behind_the_first_message_is_a_stream() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Talk", message(b"one"), end=False)
    world.after(60)
    client.sends(message(b"two"), end=True)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    assert b"/pkg.S/Talk" in world.cluster.streaming
    world.at_rest()


def test_a_half_close_in_the_same_read_is_none() -> None:
    world = World(request_timeout=2.0)
    with world.turn_of():
        client = world.call("/pkg.S/Get", message(b"one"), end=False)
        client.sends(b"", end=True)
    assert not world.cluster.streaming
    world.last.answer_grpc(message(b"a"))
    world.at_rest()


def test_two_messages_in_one_chunk_are_a_stream() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Add", message(b"one"), message(b"two"))
    world.after(60)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


def test_a_message_in_many_chunks_is_one() -> None:
    world = World(request_timeout=2.0)
    whole = message(b"x" * 40)
    with world.turn_of():
        client = world.call("/pkg.S/Get", whole[:7], end=False)
        for at in range(7, len(whole), 7):
            client.sends(whole[at : at + 7])
        client.sends(b"", end=True)
    world.after(2.01)
    assert client.grpc_status == b"4"
    assert not world.cluster.streaming
    world.at_rest()


def test_a_head_with_nothing_behind_it_is_a_stream() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Watch", message(b"q"))
    world.last.head(200, GRPC)
    assert client.status == 200
    world.after(60)
    world.last.data(message(b"news"))
    world.last.trailers([(b"grpc-status", b"0")])
    assert client.grpc_status == b"0"
    assert b"/pkg.S/Watch" in world.cluster.streaming
    world.at_rest()


def test_a_head_behind_which_more_was_read_is_none() -> None:
    """What is read at once may be told in turns, others between them."""
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/Get", message(b"q"))
    stream = world.last
    stream.unread = True
    stream.head(200, GRPC)
    with world.turn_of():
        pass
    assert not client.status
    stream.unread = False
    with world.turn_of():
        stream.data(message(b"a"))
        stream.trailers([(b"grpc-status", b"0")])
    assert client.grpc_status == b"0"
    assert not world.cluster.streaming
    world.at_rest()


def test_a_half_close_that_was_read_and_is_told_later_is_no_stream() -> None:
    world = World(request_timeout=2.0)
    with world.turn_of():
        client = world.call("/pkg.S/Get", message(b"one"), end=False)
        client.unread = True
    assert not world.cluster.streaming
    with world.turn_of():
        client.unread = False
        client.sends(b"", end=True)
    assert not world.cluster.streaming
    world.last.answer_grpc(message(b"a"))
    world.at_rest()


def test_a_second_message_of_the_answer_is_a_stream() -> None:
    world = World(request_timeout=2.0)
    client = world.call("/pkg.S/List", message(b"q"))
    with world.turn_of():
        world.last.head(200, GRPC)
        world.streams[0].data(message(b"one"))
    world.last.data(message(b"two"))
    world.after(60)
    world.last.trailers([(b"grpc-status", b"0")])
    assert client.grpc_status == b"0"
    assert b"/pkg.S/List" in world.cluster.streaming
    world.at_rest()


def test_a_long_message_of_the_answer_is_none() -> None:
    world = World(request_timeout=2.0)
    whole = message(b"x" * 50)
    client = world.call("/pkg.S/Get", message(b"q"))
    with world.turn_of():
        world.last.head(200, GRPC)
        for at in range(0, len(whole), 10):
            world.streams[0].data(whole[at : at + 10])
    assert not world.cluster.streaming
    world.after(2.01)
    assert client.grpc_status == b"4"
    world.at_rest()


@pytest.mark.parametrize("listed", ["/pkg.S/Watch", "pkg.S/*", "pkg.*"])
def test_a_listed_method_streams_from_the_start(listed: str) -> None:
    world = World(request_timeout=2.0, streams=MethodSet([listed]))
    client = world.call("/pkg.S/Watch", message(b"q"))
    world.after(60)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


def test_a_method_that_was_seen_to_stream_is_remembered() -> None:
    world = World(request_timeout=2.0)
    world.call("/pkg.S/Watch", message(b"q"))
    world.last.head(200, GRPC)
    world.last.trailers([(b"grpc-status", b"0")])
    client = world.call("/pkg.S/Watch", message(b"q"))
    world.after(60)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


@pytest.mark.parametrize("request_timeout", [0.0, 2.0, 600.0])
def test_a_stream_that_stands_still_is_ended(request_timeout: float) -> None:
    world = World(request_timeout=request_timeout, idle_timeout=30.0)
    client = world.call("/pkg.S/Talk", message(b"one"), end=False)
    world.last.head(200, GRPC)
    for _ in range(3):
        world.after(20)
        client.sends(message(b"x"))
        world.after(20)
        world.last.data(message(b"y"))
    world.after(29)
    assert client.grpc_status is None
    world.after(2)
    assert client.grpc_status == b"4"
    assert world.verdicts(0) == [Verdict.IGNORED]
    world.at_rest()


def test_a_known_stream_that_stands_still_before_its_head_is_ended() -> None:
    world = World(idle_timeout=30.0, streams=MethodSet(["pkg.*"]))
    client = world.call("/pkg.S/Talk", end=False)
    world.after(31)
    assert client.grpc_status == b"4"
    world.at_rest()


@pytest.mark.parametrize("streams", [(), ("pkg.*",)])
def test_a_streams_own_deadline_bounds_it_and_blames_nobody(streams: tuple[str, ...]) -> None:
    world = World(request_timeout=2.0, streams=MethodSet(streams))
    client = world.call("/pkg.S/Watch", message(b"q"), timeout=b"40S")
    world.last.head(200, GRPC)
    world.after(39)
    assert client.grpc_status is None
    world.after(1.1)
    assert client.grpc_status == b"4"
    assert world.verdicts(0) == [Verdict.IGNORED]
    world.at_rest()


def test_an_idle_stream_with_a_long_deadline_is_ended() -> None:
    world = World(request_timeout=2.0, idle_timeout=30.0, streams=MethodSet(["pkg.*"]))
    client = world.call("/pkg.S/Watch", message(b"q"), timeout=b"9H")
    world.last.head(200, GRPC)
    world.after(31)
    assert client.grpc_status == b"4"
    world.at_rest()


def warm(world: World) -> None:
    """Leave an idle connection, so that the next call is on its way at once."""
    world.call("/pkg.S/Get", message(b"q"))
    world.last.answer_grpc(message(b"a"))


@pytest.mark.parametrize("request_timeout", [0.0, 2.0, 600.0])
def test_what_turns_out_a_stream_before_its_head_may_not_stand_still(request_timeout: float) -> None:
    world = World(request_timeout=request_timeout, idle_timeout=30.0)
    warm(world)
    client = world.call("/pkg.S/Talk", message(b"one"), end=False)
    assert len(world.streams) == 2, "it is on its way"
    world.after(29)
    assert not client.ended
    world.after(2)
    assert client.grpc_status == b"4"
    world.at_rest()


def test_a_try_timeout_does_not_end_a_stream() -> None:
    world = World(request_timeout=2.0, try_timeout=0.5)
    warm(world)
    client = world.call("/pkg.S/Talk", message(b"one"), end=False)
    world.after(10)
    client.sends(message(b"two"), end=True)
    world.last.answer_grpc(message(b"a"))
    assert client.grpc_status == b"0"
    world.at_rest()


def test_a_call_that_its_client_left_teaches_nothing() -> None:
    world = World()
    with world.turn_of():
        world.call("/pkg.S/Get", message(b"q"), end=False).leaves()
    assert not world.cluster.streaming
    world.at_rest()
