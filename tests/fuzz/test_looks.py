"""Frames that are looked at before the library gets them, behind a connection's first ones: who
breaks no rule gets what the library alone would make of it, wherever the reads are cut."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from fuzz.mutate import split
from sidecar.wire.h2_watch import FRAMES
from tests.fuzz import conversations
from tests.fuzz.conversations import Atoms
from tests.fuzz.views import Lines, alike, streams
from tests.security.http2 import frames as f
from tests.wire.h2_peers import Heard, Upstream
from tests.wire.test_h2_guard import Raw

# More than are looked at of any connection whatever else is going on; the library counts 1,000.
BEFORE = f.frame(f.UNKNOWN) * (2 * FRAMES)
SEEDS = st.integers(0, 1 << 32)


class Told(NamedTuple):
    """What receivers heard of each message, and what was written."""

    messages: list[tuple[Any, ...]]
    said: dict[int, Lines]
    reads: bool  # whether it would go on


def heard_of(heard: Heard) -> tuple[Any, ...]:
    """Of one message, however it was cut."""
    head = None if heard.head is None else heard.head.status
    return head, bytes(heard.body), heard.trailers, heard.ended


def of_client(atoms: Atoms, looked_at: bool, reads: list[bytes]) -> Told:
    """A client says the atoms, in these reads, to a server of ours."""
    raw = Raw()
    if not looked_at:
        raw.runtime.use_up_looks()
    raw.say(BEFORE)
    assert not raw.connection._watch.new
    raw.said()
    for data in reads:
        if raw.transport.closing:
            break
        raw.say(data)
    told = [(head.path, *heard_of(heard)) for _, head, heard in raw.begun]
    gone = raw.connection.given_up or raw.transport.closing
    written = streams(raw.transport.take())
    return end(raw, gone, told, written, [heard for _, _, heard in raw.begun])


def of_server(number: int, looked_at: bool, reads: list[bytes]) -> Told:
    """A server says them to so many requests of a client of ours."""
    up = Upstream()
    up.connection.data_received(BEFORE)
    asked = [up.ask() for _ in range(number)]
    if not looked_at:
        up.runtime.use_up_looks()
        up.connection.data_received(f.frame(f.UNKNOWN) * FRAMES)
    up.runtime.loop.run()
    assert not up.connection._watch.new
    up.transport.take()
    for data in reads:
        if up.transport.closing:
            break
        up.connection.data_received(data)
        up.runtime.loop.run()
    told = [heard_of(heard) for _, heard in asked]
    gone = up.connection.given_up or up.connection.draining
    return end(up, gone, told, streams(up.transport.take()), [heard for _, heard in asked])


def end(
    one: Raw | Upstream, gone: bool, told: list[tuple[Any, ...]], written: dict[int, Lines], all_: list[Heard]
) -> Told:
    """The connection ends: nothing is left, nobody waits for ever, and there was no exception."""
    reads = one.transport.reading
    one.connection.connection_lost(None)
    one.runtime.loop.run()
    assert one.runtime.crashes == []
    assert one.runtime.loop.reported == []
    assert one.runtime.turn.depth == 0
    assert not one.connection.unread
    assert all(heard.ended or heard.failure is not None for heard in all_)
    return Told(told, written, reads or gone)


def padded(draw: conversations.Draw, atoms: Atoms) -> Atoms:
    """Some DATA with padding (RFC 9113 6.1), and some of it large."""
    found = []
    for atom in atoms:
        if atom[3] == f.DATA and draw(st.booleans()):
            payload, pad = atom[9:] * draw(st.sampled_from([1, 700])), draw(st.integers(0, 255))
            stream = int.from_bytes(atom[5:9])
            atom = f.frame(f.DATA, atom[4] | f.PADDED, stream, bytes([pad]) + payload + bytes(pad))
        found.append(atom)
    return found


@st.composite
def said_by_clients(draw: conversations.Draw, conversation: st.SearchStrategy[tuple[int, Atoms]]) -> Atoms:
    """What is said behind the preface, which has been said."""
    return padded(draw, draw(conversation)[1][1:])


@st.composite
def said_by_servers(draw: conversations.Draw, conversation: st.SearchStrategy[tuple[int, Atoms]]) -> tuple[int, Atoms]:
    """To how many requests, and what behind the SETTINGS, which have been said."""
    number, atoms = draw(conversation)
    return number, padded(draw, atoms[1:])


def cut(seed: int, atoms: Atoms) -> list[bytes]:
    """Anywhere."""
    return split(Random(seed), b"".join(atoms))


def same(one: Told, other: Told) -> bool:
    """Whether the same was answered; where the connection goes on, the same messages are whole."""
    if any(line[0] == "GOAWAY" for each in (one, other) for line in each.said.get(0, [])):
        return alike(one.said, other.said)
    whole = [[message for message in each.messages if message[-1]] for each in (one, other)]
    return alike(one.said, other.said) and whole[0] == whole[1]


@given(said_by_clients(conversations.requests()), SEEDS)
def test_a_client_that_breaks_no_rule_is_heard_as_by_the_library(atoms: Atoms, seed: int) -> None:
    # Given what a client may say, which the library hears alone and in one read
    alone = of_client(atoms, False, [b"".join(atoms)])
    # When it is looked at, in one read or in several
    for reads in ([b"".join(atoms)], cut(seed, atoms), atoms):
        looked_at = of_client(atoms, True, reads)
        # Then the same requests began, and the same was written
        assert looked_at == alone
    assert alone.reads


@given(said_by_servers(conversations.answers()), SEEDS)
def test_a_server_that_breaks_no_rule_is_heard_as_by_the_library(said: tuple[int, Atoms], seed: int) -> None:
    number, atoms = said
    alone = of_server(number, False, [b"".join(atoms)])
    for reads in ([b"".join(atoms)], cut(seed, atoms), atoms):
        assert of_server(number, True, reads) == alone
    assert alone.reads


def found_wherever_it_is_cut(hear: Callable[[bool, list[bytes]], Told], atoms: Atoms, seed: int) -> None:
    """What `hear` finds, looked at or not, in what comes in these reads."""
    whole = hear(True, [b"".join(atoms)])
    for reads in (cut(seed, atoms), atoms):
        found = hear(True, reads)
        assert same(found, whole), (found, whole)
        assert found.reads
        assert whole.reads
    # Nobody looks: nothing but the library's own answers, and no exception either
    assert hear(False, cut(seed, atoms)).reads


@given(said_by_clients(conversations.broken(conversations.requests()).filter(conversations.stays)), SEEDS)
def test_what_a_client_breaks_is_found_wherever_it_is_cut(atoms: Atoms, seed: int) -> None:
    found_wherever_it_is_cut(partial(of_client, atoms), atoms, seed)


@given(said_by_servers(conversations.broken(conversations.answers()).filter(conversations.stays)), SEEDS)
def test_what_a_server_breaks_is_found_wherever_it_is_cut(said: tuple[int, Atoms], seed: int) -> None:
    number, atoms = said
    found_wherever_it_is_cut(partial(of_server, number), atoms, seed)
