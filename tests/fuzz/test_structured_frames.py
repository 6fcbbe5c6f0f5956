"""HTTP/2 frames built from their grammar, of a client and of a server: what is right is answered,
and what is broken changes neither with the way in which it is cut, nor leaves anything behind."""

import pytest
from hypothesis import given

from fuzz.stage import Heard, Stage
from tests.fuzz import conversations
from tests.fuzz.conversations import Atoms
from tests.fuzz.views import Lines, alike, asked, requests, streams
from tests.security.http2 import frames as f

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# A client that says nothing of note, so that the other side may go on.
QUIET = f.ping(ack=True)


def of_client(atoms: Atoms, bytewise: bool = False) -> Heard:
    """A client says them, and the endpoints answer whatever they are asked."""
    acts = [b"".join(atoms), *[ANSWER, QUIET] * 8]
    return Stage("http1", "http", bytewise).play(acts)


def of_server(number: int, atoms: Atoms, bytewise: bool = False) -> Heard:
    """An endpoint says them to so many requests of a client that speaks HTTP/2 too."""
    first, *others = [f.headers(1 + 2 * index, conversations.REQUEST, end=True) for index in range(number)]
    client = [f.PREFACE + f.settings() + first, b"".join(others) or QUIET, QUIET]
    # The first frame is said before the others are asked, so that one connection takes them all.
    server = [atoms[0], b"".join(atoms[1:]) or f.ping()]
    acts = [client[0], server[0], client[1], server[1], client[2]]
    return Stage("http2", "http", bytewise, endpoints=1).play(acts)


def head_of(lines: Lines) -> list[tuple[bytes, bytes]]:
    """The final head."""
    return next(line[1] for line in lines if line[0] == "head" and line[1][0][1] >= b"200")


@given(conversations.requests())
def test_requests_are_all_answered(said: tuple[int, Atoms]) -> None:
    # Given requests as a client may make them
    number, atoms = said
    # When they are made
    heard = of_client(atoms)
    # Then each reaches an endpoint and is answered
    answered = streams(heard.client)
    assert answered.keys() == {1 + 2 * index for index in range(number)}
    for lines in answered.values():
        assert dict(head_of(lines))[b":status"] == b"200"
        assert lines[1:] == [("data", b"ok"), ("end",)]
    reached = [line for each in requests(heard.endpoints) for line in each]
    assert [line[0] for line in reached].count("head") == number


@given(conversations.answers())
def test_answers_all_reach_the_client(said: tuple[int, Atoms]) -> None:
    # Given answers as a server may give them
    number, atoms = said
    # When they are given
    heard = of_server(number, atoms)
    # Then the client has each, as it was given
    given_, got = streams(b"".join(atoms)), streams(heard.client)
    assert got.keys() == given_.keys(), (got, given_)
    for stream, lines in got.items():
        assert lines[-1] == ("end",)
        assert head_of(lines)[0] == head_of(given_[stream])[0]
        assert [line for line in lines if line[0] == "data"] == [line for line in given_[stream] if line[0] == "data"]


@given(conversations.broken(conversations.requests()).filter(conversations.stays))
def test_what_a_client_breaks_is_the_same_however_it_is_cut(said: tuple[int, Atoms]) -> None:
    # Given requests of which something is broken
    _, atoms = said
    # When they are read in one piece, and byte by byte
    whole, bytewise = of_client(atoms), of_client(atoms, bytewise=True)
    # Then endpoints and client hear the same, and nothing is left (the play looks)
    assert requests(bytewise.endpoints) == requests(whole.endpoints)
    assert alike(streams(bytewise.client), streams(whole.client))


@given(conversations.broken(conversations.answers()).filter(conversations.stays))
def test_what_a_server_breaks_is_the_same_however_it_is_cut(said: tuple[int, Atoms]) -> None:
    # Given answers of which something is broken
    number, atoms = said
    # When they are read in one piece, and byte by byte
    whole, bytewise = of_server(number, atoms), of_server(number, atoms, bytewise=True)
    # Then endpoints and client hear the same, and nothing is left (the play looks)
    assert asked(streams(bytewise.endpoints[0])) == asked(streams(whole.endpoints[0]))
    assert alike(streams(bytewise.client), streams(whole.client))


LONG = f.frame(f.PRIORITY, 0, 3, b"longer than five")
OPEN = f.headers(1, conversations.REQUEST)
SAID_BY_CLIENTS = {
    "a PRIORITY of a wrong length, of a stream that is not open": [OPEN, LONG, f.data(1, b"x", end=True)],
    "a PRIORITY of a wrong length, of one that is": [
        OPEN,
        f.headers(3, conversations.REQUEST),
        LONG,
        f.data(1, b"x", end=True),
    ],
}


@pytest.mark.parametrize("name", SAID_BY_CLIENTS)
def test_a_priority_of_a_wrong_length_ends_no_connection_however_it_is_cut(name: str) -> None:
    # Given a client that says it beside a request that is right
    atoms = [f.PREFACE + f.settings(), *SAID_BY_CLIENTS[name]]
    # When it is read in one piece, and byte by byte
    for bytewise in (False, True):
        said = streams(of_client(atoms, bytewise).client)
        # Then that request is answered (RFC 9113 6.3: it is an error of its stream)
        assert 0 not in said
        assert said[1][-1] == ("end",)
        assert said.get(3, [("RST_STREAM", f.FRAME_SIZE_ERROR, 0)]) == [("RST_STREAM", f.FRAME_SIZE_ERROR, 0)]


def test_an_answer_that_is_malformed_twice_ends_its_stream_however_it_is_cut() -> None:
    # Given a server that says twice what is no head of an answer, and answers another request
    malformed = f.headers(1, [(b"x-checksum", b"1")], end=True)
    atoms = [f.settings((3, 100)), malformed, malformed, f.headers(3, [(b":status", b"200")], end=True)]
    # When it is read in one piece, and byte by byte
    for bytewise in (False, True):
        said = streams(of_server(2, atoms, bytewise).client)
        # Then one request fails, and the other does not (RFC 9113 8.1.1: malformed is an error of the stream)
        assert [dict(head_of(said[stream]))[b":status"] for stream in (1, 3)] == [b"502", b"200"]
