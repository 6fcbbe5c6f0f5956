"""Frames of HTTP/2 as somebody may say them: messages on a few streams, interleaved in any order
that the RFC allows, with what belongs to no stream between them; and the same, broken."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.security.http2 import frames as f

Atoms = list[bytes]
Draw = Callable[[Any], Any]

FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"x-b", b"cookie", b"accept"]), st.sampled_from([b"", b"1", b"a=b", b"\xc3\xa9"])
    ),
    max_size=3,
)
PIECES = st.lists(st.binary(max_size=12), max_size=3)
REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"a")]
# What anybody may say at any time, in a measure that no budget minds.
ASIDES = (
    f.ping(),
    f.window_update(0, 1000),
    f.priority(1, 0),
    f.settings((4, 100_000)),
    f.frame(f.UNKNOWN, 0xFF, 0, b"whatever"),
    f.frame(f.UNKNOWN, 0, 1, b""),
)
CODES = (f.NO_ERROR, f.CANCEL, f.REFUSED_STREAM, f.INTERNAL_ERROR)


def message(draw: Draw, stream: int, head: Sequence[tuple[bytes, bytes]], interim: bytes = b"") -> Atoms:
    """The frames of one message on a stream; a header block may go on in CONTINUATIONs."""
    pieces, trailers = draw(PIECES), draw(st.booleans())
    fields = [*head, *draw(FIELDS)]
    end_with_head = not pieces and not trailers
    block = f.block(fields)
    cut = draw(st.integers(0, len(block))) if draw(st.booleans()) else len(block)
    end = f.END_STREAM if end_with_head else 0
    if cut < len(block):
        first = f.frame(f.HEADERS, end, stream, block[:cut])
        first += f.frame(f.CONTINUATION, f.END_HEADERS, stream, block[cut:])
    else:
        first = f.frame(f.HEADERS, end | f.END_HEADERS, stream, block)
    atoms = [interim + first]
    for number, piece in enumerate(pieces, 1):
        atoms.append(f.data(stream, piece, end=number == len(pieces) and not trailers))
    if trailers:
        atoms.append(f.headers(stream, [(b"x-checksum", b"1")], end=True))
    return atoms


def interleaved(draw: Draw, queues: list[Atoms], in_order: bool) -> Atoms:
    """One list of all of them. `in_order`: a stream begins behind those with lower numbers, as
    those of a client must (RFC 9113 5.1.1)."""
    begun: set[int] = set()
    found: Atoms = []
    queues = [list(queue) for queue in queues]
    while any(queues):
        may = [number for number, queue in enumerate(queues) if queue]
        if in_order:
            fresh = [number for number in may if number not in begun]
            may = [number for number in may if number in begun or number == fresh[0]]
        chosen = draw(st.sampled_from(may))
        begun.add(chosen)
        found.append(queues[chosen].pop(0))
        if draw(st.integers(0, 3)) == 0:
            found.append(draw(st.sampled_from(ASIDES)))
    return found


@st.composite
def requests(draw: Draw) -> tuple[int, Atoms]:
    """How many requests, and what a client says to make them."""
    number = draw(st.integers(1, 3))
    queues = [message(draw, 1 + 2 * index, REQUEST) for index in range(number)]
    return number, [f.PREFACE + f.settings(), *interleaved(draw, queues, in_order=True)]


@st.composite
def answers(draw: Draw) -> tuple[int, Atoms]:
    """How many answers, and what a server says to give them, in any order."""
    number = draw(st.integers(1, 3))
    queues = []
    for index in range(number):
        stream = 1 + 2 * index
        interim = f.headers(stream, [(b":status", b"103")]) if draw(st.booleans()) else b""
        queues.append(message(draw, stream, [(b":status", draw(st.sampled_from([b"200", b"404", b"500"])))], interim))
    return number, [f.settings((3, 100)), *interleaved(draw, queues, in_order=False)]


@st.composite
def broken(draw: Draw, conversation: st.SearchStrategy[tuple[int, Atoms]]) -> tuple[int, Atoms]:
    """The same with one to three changes: frames dropped, doubled, swapped, cut, with other types,
    flags, streams, lengths or payloads, and with ends that come too early."""
    number, atoms = draw(conversation)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(1, len(atoms))) if len(atoms) > 1 else 1
        if place == len(atoms):
            stream, code = draw(st.sampled_from([0, 1, 2, 3, 99])), draw(st.sampled_from(CODES))
            atoms = [*atoms, draw(st.sampled_from([f.reset(stream, code), f.goaway(stream, code)]))]
            continue
        atoms = [*atoms[:place], *draw(changed(atoms[place])), *atoms[place + 1 :]]
        if draw(st.booleans()) and place + 1 < len(atoms):
            atoms[place], atoms[place + 1] = atoms[place + 1], atoms[place]
    return number, atoms


def stays(said: tuple[int, Atoms]) -> bool:
    """Whether nobody says GOAWAY: what comes in one read with it is heard by chance, for a connection on
    which nothing is under way is closed at once, and what a server has not begun may be asked again."""
    return all(atom[3] != f.GOAWAY for atom in said[1][1:])


@st.composite
def changed(draw: Draw, atom: bytes) -> Atoms:
    """What may become of one frame."""
    frame = bytearray(atom)
    match draw(st.integers(0, 7)):
        case 0:
            return []
        case 1:
            return [atom, atom]
        case 2:
            frame[3] = draw(st.integers(0, 11))
        case 3:
            frame[4] ^= 1 << draw(st.integers(0, 5))
        case 4:
            frame[5:9] = draw(st.sampled_from([0, 1, 2, 3, 5, 99, 0x7FFFFFFF])).to_bytes(4, "big")
        case 5:
            frame[0:3] = draw(st.sampled_from([0, 1, 4, 8, 16385, 65537])).to_bytes(3, "big")
        case 6 if len(frame) > 9:
            frame[draw(st.integers(9, len(frame) - 1))] ^= 1 << draw(st.integers(0, 7))
        case _:
            return [
                bytes(frame),
                draw(st.sampled_from([f.reset(1), f.data(1, b"x"), f.window_update(1, 0), f.goaway()])),
            ]
    return [bytes(frame)]
