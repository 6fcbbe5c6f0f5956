"""Bodies: replay and its limit, late and early bytes, back-pressure both ways."""

from sidecar.model.outcome import Failure
from tests.proxy.world import World, message, policy

KIB = 1024


def test_a_body_that_comes_later_goes_on_as_it_comes() -> None:
    world = World()
    client = world.request("PUT", body=b"one", end=False)
    client.sends(b"two")
    client.sends(b"three", end=True)
    assert world.last.chunks == [b"one", b"two", b"three"], "never joined"
    world.last.answer()
    assert client.status == 200
    assert world.ended["in"] == 11
    world.at_rest()


def test_trailers_end_a_request() -> None:
    world = World()
    client = world.request("PUT", body=b"one", end=False)
    client.sends_trailers([(b"x-sum", b"1")])
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert world.last.body == b"one"
    assert world.last.request_trailers == [(b"x-sum", b"1")]
    world.last.answer()
    world.at_rest()


def test_bytes_that_come_before_there_is_a_stream_are_kept_for_it() -> None:
    world = World()
    world.connector.by_hand = True
    client = world.request("PUT", body=b"one", end=False)
    client.sends(b"two")
    world.connector.connects()
    assert world.last.body == b"onetwo"
    client.sends(b"three", end=True)
    assert world.last.body == b"onetwothree"
    world.last.answer()
    world.at_rest()


def test_bytes_that_come_between_two_tries_are_for_the_second() -> None:
    world = World()
    client = world.request("PUT", body=b"one", end=False)
    world.last.fails(Failure.RESET)
    client.sends(b"two")
    world.after(0.25)
    client.sends(b"three", end=True)
    assert world.last.body == b"onetwothree"
    world.last.answer()
    world.at_rest()


def test_a_client_that_sends_before_anybody_listens_is_held() -> None:
    world = World(retry=policy(replay=1024 * KIB))
    world.connector.by_hand = True
    client = world.request("PUT", body=b"x" * 50 * KIB, end=False)
    assert not client.paused
    client.sends(b"x" * 20 * KIB)
    assert client.paused
    world.connector.connects()
    assert not client.paused
    client.sends(b"", end=True)
    world.last.answer()
    world.at_rest()


def test_within_the_replay_limit_a_body_is_repeated_whole() -> None:
    world = World(retry=policy(replay=10))
    world.request("PUT", body=b"0123456789")
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert world.last.body == b"0123456789"
    world.last.answer()
    world.at_rest()


def test_past_the_replay_limit_nothing_is_repeated() -> None:
    world = World(retry=policy(replay=10))
    client = world.request("PUT", body=b"0123456", end=False)
    client.sends(b"789a", end=True)
    assert world.last.body == b"0123456789a"
    world.last.fails(Failure.REFUSED)
    assert client.status == 502
    assert client.got(b"x-sidecar-retry-skipped") == b"too_large"
    world.at_rest()


def test_a_body_past_the_limit_is_still_sent_by_a_dial_that_comes_second() -> None:
    """Nothing was let go before there was a stream: the bytes are all there."""
    world = World(retry=policy(replay=10))
    world.connector.dead.add("e0:80")
    client = world.request("PUT", body=b"x" * 100)
    assert world.last.body == b"x" * 100
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_without_retries_nothing_is_kept() -> None:
    world = World(retry=policy(attempts=1))
    client = world.request("PUT", body=b"x" * 100, end=False)
    exchange = client.receiver
    assert exchange.upload.chunks == []
    client.sends(b"x" * 100, end=True)
    assert exchange.upload.chunks == []
    world.last.answer()
    world.at_rest()


def test_after_the_answers_head_nothing_is_kept() -> None:
    world = World()
    client = world.request("PUT", body=b"one", end=False)
    world.last.head(200)
    exchange = client.receiver
    client.sends(b"two")
    assert exchange.upload.chunks == []
    client.sends(b"", end=True)
    world.last.data(b"", end=True)
    assert world.last.body == b"onetwo"
    world.at_rest()


# ------------------------------------------------------------------- back-pressure


def test_a_slow_endpoint_slows_the_client_every_time() -> None:
    world = World()
    client = world.request("PUT", body=b"0", end=False)
    for number in range(3):
        world.last.takes_more = False
        client.sends(b"%d" % number)
        assert client.paused, f"round {number}"
        world.last.takes()
        assert not client.paused
    client.sends(b"", end=True)
    world.last.answer()
    world.at_rest()


def test_a_client_that_was_slowed_by_one_try_goes_on_with_the_next() -> None:
    world = World()
    client = world.request("PUT", body=b"0", end=False)
    world.last.takes_more = False
    client.sends(b"1")
    assert client.paused
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert not client.paused
    client.sends(b"2", end=True)
    assert world.last.body == b"012"
    world.last.answer()
    world.at_rest()


def test_a_slow_client_slows_the_endpoint_every_time() -> None:
    world = World()
    client = world.request()
    world.last.head(200)
    for number in range(3):
        client.takes_more = False
        world.last.data(b"%d" % number)
        assert world.last.paused, f"round {number}"
        client.takes()
        assert not world.last.paused
    world.last.data(b"", end=True)
    assert client.body == b"012"
    world.at_rest()


def test_chunks_of_an_answer_are_never_joined() -> None:
    world = World()
    client = world.request()
    world.last.head(200)
    for chunk in (b"a", b"b", b"c"):
        world.last.data(chunk)
    world.last.trailers([(b"x-sum", b"1")])
    assert (client.chunks, client.trailers) == ([b"a", b"b", b"c"], [(b"x-sum", b"1")])
    assert world.ended["out"] == 3
    world.at_rest()


# -------------------------------------------------------- early and partial answers


def test_an_answer_before_the_end_of_the_request_gives_the_stream_up() -> None:
    world = World()
    client = world.request("POST", body=b"one", end=False)
    world.last.answer(413, b"too much")
    assert (client.status, client.body) == (413, b"too much")
    assert world.last.was_reset is Failure.CANCELLED
    client.sends(b"two", end=True)
    assert world.last.body == b"one"
    world.at_rest()


def test_a_kept_answer_never_gets_the_rest_of_the_request() -> None:
    """The first endpoint saw the beginning, the second one what came next: sent to the
    first, the end would make it a body with a hole."""
    world = World(retry=policy(attempts=2))
    client = world.request("PUT", body=b"one", end=False)
    first = world.last
    first.head(503)
    world.after(0.25)
    client.sends(b"two")
    world.last.takes_more = False
    client.sends(b"three")
    assert client.paused
    world.last.fails(Failure.RESET)
    assert client.status == 503
    assert not client.paused, "what has no taker must not hold the client up"
    client.sends(b"four", end=True)
    assert (first.body, first.request_ended) == (b"one", False)
    first.data(b"busy", end=True)
    assert client.body == b"busy"
    assert first.was_reset is Failure.CANCELLED
    world.at_rest()


def test_a_kept_whole_answer_to_half_a_request_is_given_up() -> None:
    world = World()
    client = world.request("PUT", body=b"one", end=False)
    first = world.last
    first.answer(503, b"busy")
    world.after(0.25)
    client.sends(b"two", end=True)
    world.last.answer(200, b"fine")
    assert client.body == b"fine"
    assert first.was_reset is Failure.CANCELLED, "its connection is in the middle of a request"
    world.at_rest()


def test_interim_answers_go_on_at_once() -> None:
    world = World()
    client = world.request("POST", headers=[(b"expect", b"100-continue")], end=False)
    assert world.last.sent(b"expect") == b"100-continue"
    world.last.informational(100)
    world.last.informational(103)
    assert client.interim == [100, 103]
    client.sends(b"body", end=True)
    world.last.answer()
    assert client.status == 200
    world.at_rest()


def test_a_client_that_was_told_to_go_on_is_not_asked_again() -> None:
    world = World()
    client = world.request("PUT", headers=[(b"expect", b"100-continue")], end=False)
    world.last.informational(100)
    client.sends(b"body", end=True)
    world.last.fails(Failure.RESET)
    world.after(0.25)
    assert world.last.sent(b"expect") is None
    world.last.answer()
    world.at_rest()


def test_a_streams_messages_keep_their_order_both_ways() -> None:
    world = World(protocol="http2")
    client = world.call("/pkg.S/Talk", message(b"0"), end=False)
    world.last.head(200, [(b"content-type", b"application/grpc")])
    for number in range(1, 50):
        client.sends(message(b"%d" % number))
        world.last.data(message(b"%d" % number))
    client.sends(b"", end=True)
    world.last.trailers([(b"grpc-status", b"0")])
    assert world.last.chunks == [message(b"%d" % number) for number in range(50)]
    assert client.chunks == [message(b"%d" % number) for number in range(1, 50)]
    world.at_rest()
